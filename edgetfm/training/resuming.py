"""What a run that was cut off leaves, so that going on equals never having stopped, bit for bit.

Everything drawn at random follows from the seed, the epoch and the step, so no generator's state
is kept: the weights, the optimizer's moments and where the run stood are all there is. In float16
there is the scale of the loss too, which begins anew.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from edgetfm.errors import InputError, in_short, listed
from edgetfm.training.checkpoint import as_json
from edgetfm.training.config import TrainConfig

STATE, TENSORS = "resume.json", "resume.safetensors"
SHOWN = 10
"""Problems of tensors that are listed; of the others the number is said."""
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
        """Put the weights and the moments where they were.

        Raises InputError, before anything is changed, for tensors that are not this model's.
        """
        if problems := [*self._misfits(module), *self._strange_moments(optimizer)]:
            more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
            raise InputError(
                f"{TENSORS} is not of this run, begin again with --force:\n"
                f"{listed(problems[:SHOWN] + more)}"
            )
        module.load_state_dict(self.module)
        state = optimizer.state_dict()
        optimizer.load_state_dict({**state, "state": self.moments})

    def _misfits(self, module: nn.Module) -> Iterator[str]:
        """What keeps the weights, or the best ones, from being this module's."""
        own = module.state_dict()
        for group, found in (("module", self.module), ("best", self.best.weights)):
            if group == "best" and not found:  # no epoch has ended
                continue
            for name in own.keys() ^ found.keys():
                yield f"{group}.{name} is {'missing' if name in own else 'unknown'}"
            for name in sorted(own.keys() & found.keys()):
                yield from _misfit(f"{group}.{name}", found[name], own[name])

    def _strange_moments(self, optimizer: torch.optim.Optimizer) -> Iterator[str]:
        """What keeps the moments from being of these weights: a moment has its weight's shape."""
        weights = [w for group in optimizer.param_groups for w in group["params"]]
        for number, entry in self.moments.items():
            if not 0 <= number < len(weights):
                yield f"optimizer.{number}: there are {len(weights)} weights that learn"
                continue
            for name, moment in entry.items():
                if moment.ndim:  # the number of steps is a scalar
                    yield from _misfit(f"optimizer.{number}.{name}", moment, weights[number])
                elif not bool(torch.isfinite(moment)):
                    yield f"optimizer.{number}.{name} is no finite number"
        kinds = {frozenset(entry) for entry in self.moments.values()}
        if len(kinds) > 1:
            yield "some weights lack moments that others have"


def _misfit(name: str, found: Tensor, wanted: Tensor) -> Iterator[str]:
    """What keeps a tensor from taking the place of another."""
    if found.shape != wanted.shape:
        yield f"{name} has the shape {[*found.shape]}, expected {[*wanted.shape]}"
    elif found.is_floating_point() != wanted.is_floating_point():
        yield f"{name} is {found.dtype}, expected {wanted.dtype}"
    elif found.is_floating_point() and not bool(torch.isfinite(found).all()):
        yield f"{name} holds numbers that are not finite"


def read_state(folder: Path, config: TrainConfig, fingerprint: str) -> Saved:
    """What `state_files` wrote; InputError if it is of another configuration or other data."""
    try:
        said = json.loads((folder / STATE).read_text(encoding="utf-8"))
        tensors = load_file(folder / TENSORS)
        saved = _saved(said, tensors)
        theirs, their_data = dict(said["config"]), said["fingerprint"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError,
            SafetensorError) as error:  # fmt: skip
        raise InputError(
            f"{folder} does not hold a run that can go on ({in_short(error)}): begin again with "
            "--force"
        ) from error
    ours = config.to_json()
    problems = [
        f"{key} was {theirs.get(key)!r} and is {value!r}"
        for key, value in ours.items()
        if key not in FREE and theirs.get(key) != json.loads(json.dumps(value))
    ]
    if their_data != fingerprint:
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
    position = _checked(Position(**said["position"]))
    best = Best(_whole(said["best"], "epoch"), weights=groups["best"])
    if best.weights:
        best.score, best.loss = (_finite(said["best"], name) for name in ("score", "loss"))
    if bool(best.weights) != bool(position.curve) or best.epoch > len(position.curve):
        raise ValueError(f"the best epoch is {best.epoch} of {len(position.curve)}")
    return Saved(position, best, groups["module"], moments)


def _checked(position: Position) -> Position:
    """The position, if it can be one; a ValueError says what cannot."""
    said = asdict(position)
    for name in ("step", "epoch", "batches", "count"):
        _whole(said, name)
    _finite(said, "total")
    if position.epoch != len(position.curve) + 1:
        raise ValueError(f"epoch {position.epoch} follows {len(position.curve)} that are done")
    for name, rows in (("curve", position.curve), ("losses", position.losses)):
        kind = dict if name == "curve" else list
        if not isinstance(rows, list) or not all(isinstance(row, kind) for row in rows):
            raise ValueError(f"'{name}' is no list of {kind.__name__}s")
    if not all(len(row) == 2 and all(map(_is_finite, row)) for row in position.losses):
        raise ValueError("'losses' holds more than steps and losses")
    return position


def _whole(said: Mapping[str, Any], name: str) -> int:
    value = said[name]
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise ValueError(f"'{name}' is {value!r:.60}, expected a whole number from 0")
    return value


def _finite(said: Mapping[str, Any], name: str) -> float:
    if not _is_finite(said[name]):
        raise ValueError(f"'{name}' is {said[name]!r:.60}, expected a number")
    return float(said[name])


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and value is not True
