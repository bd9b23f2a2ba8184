"""What a run that was cut off leaves, so that going on equals never having stopped, bit for bit.

Everything drawn at random follows from the seed, the epoch and the step, so no generator's state
is kept: the weights, the optimizer's moments and where the run stood are all there is. In float16
there is the scale of the loss too, which begins anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from edgetfm.errors import InputError, listed
from edgetfm.training.checkpoint import as_json
from edgetfm.training.config import TrainConfig

STATE, TENSORS = "resume.json", "resume.safetensors"
FREE = ("threads", "save_every")
"""What a configuration may say otherwise when a run goes on; `threads` costs the last bit."""


@dataclass
class Best:
    """The weights that did best on the validation part so far."""

    epoch: int = 0
    score: float = -math.inf
    loss: float = math.inf
    weights: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, epoch: int, score: float, loss: float, module: nn.Module) -> None:
        """Take these weights if they score higher, or as high with a smaller loss."""
        if (score, -loss) > (self.score, -self.loss):
            self.epoch, self.score, self.loss = epoch, score, loss
            self.weights = {n: w.detach().cpu().clone() for n, w in module.state_dict().items()}


@dataclass
class Position:
    """Where a run stands: `batches` are those that are done of `epoch`, `step` of all epochs.

    total, count: the losses of this epoch and how many answers they are of. curve: what each
    epoch came to. losses: (step, mean loss) along the way.
    """

    step: int = 0
    epoch: int = 1
    batches: int = 0
    total: float = 0.0
    count: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)
    losses: list[list[float]] = field(default_factory=list)


def state_files(
    config: TrainConfig,
    fingerprint: str,
    position: Position,
    best: Best,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> dict[str, bytes]:
    """The files of a run that may go on."""
    moments = optimizer.state_dict()["state"]
    tensors = {f"module.{n}": w for n, w in module.state_dict().items()}
    tensors |= {f"best.{n}": w for n, w in best.weights.items()}
    tensors |= {
        f"optimizer.{i}.{n}": w
        for i, entry in moments.items()
        for n, w in entry.items()
        if torch.is_tensor(w)
    }
    said = {
        "config": config.to_json(),
        "fingerprint": fingerprint,
        "position": asdict(position),
        "best": {
            "epoch": best.epoch,
            # JSON has no infinity: before the first epoch ends there is no best.
            "score": best.score if best.weights else None,
            "loss": best.loss if best.weights else None,
        },
    }
    kept = {n: w.detach().cpu().clone().contiguous() for n, w in tensors.items()}
    return {STATE: as_json(said), TENSORS: save(kept)}


def resumable(folder: Path) -> bool:
    """Whether a folder holds a run that was cut off."""
    return (folder / STATE).is_file() and (folder / TENSORS).is_file()


def why_not_resumable(folder: Path) -> str:
    """Why a folder with a checkpoint holds no run to go on with."""
    try:
        complete = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["complete"]
    except (OSError, ValueError, KeyError, TypeError):
        complete = False
    if complete is True:
        return f"the run in {folder} is complete"
    missing = [name for name in (STATE, TENSORS) if not (folder / name).is_file()]
    return f"the run in {folder} was cut off and lacks {' and '.join(missing)}"


@dataclass(frozen=True)
class Saved:
    """A run that was cut off, as its files say."""

    position: Position
    best: Best
    module: dict[str, Tensor]
    moments: dict[int, dict[str, Tensor]]

    def restore(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put the weights and the moments where they were."""
        module.load_state_dict(self.module)
        state = optimizer.state_dict()
        optimizer.load_state_dict({**state, "state": self.moments})


def read_state(folder: Path, config: TrainConfig, fingerprint: str) -> Saved:
    """What `state_files` wrote; InputError if it is of another configuration or other data."""
    try:
        said = json.loads((folder / STATE).read_text(encoding="utf-8"))
        tensors = load_file(folder / TENSORS)
        saved = _saved(said, tensors)
        theirs = said["config"]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(
            f"{folder} does not hold a run that can go on ({error}): begin again with --force"
        ) from error
    ours = config.to_json()
    problems = [
        f"{key} was {theirs.get(key)!r} and is {value!r}"
        for key, value in ours.items()
        if key not in FREE and theirs.get(key) != json.loads(json.dumps(value))
    ]
    if said["fingerprint"] != fingerprint:
        problems.append("the data is not the same")
    if problems:
        raise InputError(
            f"the run in {folder} cannot go on with another configuration, begin again with "
            f"--force:\n{listed(problems)}"
        )
    return saved


def _saved(said: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Saved:
    groups: dict[str, dict[str, Tensor]] = {"module": {}, "best": {}}
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        group, _, rest = name.partition(".")
        if group == "optimizer":
            number, _, key = rest.partition(".")
            moments.setdefault(int(number), {})[key] = tensor
        else:
            groups[group][rest] = tensor
    best = Best(said["best"]["epoch"], weights=groups["best"])
    if best.weights:
        best.score, best.loss = said["best"]["score"], said["best"]["loss"]
    return Saved(Position(**said["position"]), best, groups["module"], moments)
