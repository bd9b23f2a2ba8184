"""Decoders in GGUF files, through the family that has their Hugging Face model type."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgetfm import assets, models
from edgetfm.errors import SourceError
from edgetfm.files import sha256
from edgetfm.models._family import Family
from edgetfm.models._lazy import LazyWeight
from edgetfm.sources import _reference, _weights
from edgetfm.sources._generation import read_generation
from edgetfm.sources._gguf import GGUFModel, open_gguf
from edgetfm.sources._source import Oracle, Source, Streamed
from edgetfm.tasks import task_named

_TASK = "text-generation"


def open_gguf_source(place: Path, task: str | None = None, *, route: str | None = None) -> Source:
    """The decoder in a GGUF file, or in a folder with one; its weights are read one by one.

    The oracle is transformers on the same file: its weights as they were rounded are the truth.
    """
    if route not in (None, "native"):
        raise SourceError(f"{place} is a GGUF file: it has the native route only")
    model = open_gguf(place)
    family = _family(model)
    family.check_task(task_named(task).name if task else _TASK)
    assert family.from_hf is not None
    assert family.cache is not None
    config = family.from_hf.config(model.config, _TASK)
    skeleton, weights = _streamed(family, config, model)
    _weights.check_fit(skeleton, _shapes(weights), family.from_hf.elsewhere)
    settings = json.dumps(_plain(model.config), indent=2, default=str) + "\n"
    files = {"config.json": settings.encode(), **model.tokenizer_files()}
    with tempfile.TemporaryDirectory(prefix="edgetfm-") as made:
        folder = Path(made)
        for name, data in files.items():
            (folder / name).write_bytes(data)
        prepared = assets.read_inputs(folder, task_named(_TASK).senses, config)
        more, tokens = read_generation(folder, model.config)
    return Source(
        kind="gguf",
        name=model.path.stem,
        family=family,
        config=config,
        task=_TASK,
        provenance={
            "kind": "gguf",
            "name": model.path.name,
            "model_type": model.config["model_type"],
            "sha256": {model.path.name: sha256(model.path)},
        },
        build_module=lambda: _module(family, config, model),
        build_reference=lambda: _oracle(model, config),
        assets={"config.json": files["config.json"], **prepared.assets, **more},
        preprocessing=prepared.preprocessing,
        licence=model.licence,
        notes=(*((model.note,) if model.note else ()), *prepared.notes),
        generation={**family.cache(config), **tokens},
        build_streamed=lambda: _streamed(family, config, model),
    )


def _family(model: GGUFModel) -> Family:
    model_type = str(model.config.get("model_type"))
    family = models.family_for(model_type)
    if family is None or not family.streams:
        rows = (r for r in models.TABLE.values() if _TASK in r.tasks)
        known = ", ".join(sorted(t for row in rows for t in row.model_types))
        raise SourceError(
            f"{model.path} is a {model_type!r}, which no decoder of edgetfm has; they have {known}"
        )
    return family


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    """The config as a checkpoint's folder has it."""
    kind = _reference.architecture(str(config["model_type"]), _TASK)
    return {**config, "architectures": [kind]}


def _streamed(family: Family, config: Any, model: GGUFModel) -> Streamed:
    assert family.from_hf is not None
    opened: Any = {name: _lazy(model, name) for name in model.names}
    module = _weights.empty(lambda: family.build(config, _TASK)).eval()
    weights: Any = family.from_hf.rewrite(opened)
    return module, weights


def _lazy(model: GGUFModel, name: str) -> LazyWeight:
    def read() -> torch.Tensor:
        return torch.from_numpy(model.tensor(name))

    return LazyWeight(torch.Size(model.tensor_shape(name)), torch.float32, read)


def _shapes(weights: dict[str, LazyWeight]) -> _weights.Weights:
    return {n: torch.empty(w.shape, dtype=w.dtype, device="meta") for n, w in weights.items()}


def _module(family: Family, config: Any, model: GGUFModel) -> nn.Module:
    module, weights = _streamed(family, config, model)
    return _weights.fill(module, {name: weight.read() for name, weight in weights.items()})


def _oracle(model: GGUFModel, config: Any) -> Oracle:
    return _reference.oracle_of(_reference.causal_lm(model.config, model.weights()), _TASK, config)
