"""The weights of another model, for one that learns on from there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgetfm import assets
from edgetfm.errors import InputError
from edgetfm.models._family import Family
from edgetfm.sources import _weights
from edgetfm.training.data.named import start_folder


@dataclass(frozen=True)
class Start:
    """A model to start from: its config as one of the family, its weights in the family's names.

    heads: a pattern of the weights that belong to one task.
    """

    name: str
    config: Any
    weights: Mapping[str, Tensor]
    heads: str

    def fill(self, module: nn.Module) -> tuple[str, ...]:
        """Give a module these weights; the names of those of its head that stay fresh.

        Raises InputError if anything but a head is missing, or of another shape.
        """
        wanted = module.state_dict()
        fresh = [
            name
            for name, tensor in wanted.items()
            if name not in self.weights or self.weights[name].shape != tensor.shape
        ]
        wrong = [name for name in fresh if not re.search(self.heads, name)]
        if wrong:
            raise InputError(
                f"{self.name} has no weights of the right shape for {', '.join(wrong[:8])}"
                f"{' and others' if len(wrong) > 8 else ''}: leave sizes out of the table 'model'"
            )
        taken = {n: self.weights[n].to(torch.float32) for n in wanted if n not in fresh}
        module.load_state_dict(taken, strict=False)
        return tuple(fresh)


def read_start(folder: str, family: Family, task: str) -> Start:
    """A checkpoint of ours, or a Hugging Face folder of one of the family's types.

    Raises SourceError for what the family cannot honour.
    """
    from edgetfm.sources import checkpoint

    path = start_folder(folder)
    if not path.is_dir():
        raise InputError(f"start is '{folder}', which is no folder of a model")
    weights = _weights.open_weights(_weights.weight_files(path))
    heads = family.from_hf.elsewhere if family.from_hf else r"^head\."
    if checkpoint.is_checkpoint(path):
        config = checkpoint.config_of(path, family)
        return Start(folder, config, weights, heads)
    hf = assets.read_json(path / "config.json", required=True)
    if family.from_hf is None or hf.get("model_type") not in family.from_hf.model_types:
        known = ", ".join(family.from_hf.model_types) if family.from_hf else "none"
        raise InputError(
            f"{folder} is a {hf.get('model_type')}; the family {family.name} starts from {known}"
        )
    from edgetfm.sources.huggingface import complete_config

    config = family.from_hf.config(complete_config(hf, path), task)
    return Start(folder, config, family.from_hf.rewrite(dict(weights)), heads)
