"""What a training run is told: a TOML file, checked whole before any work is done."""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from edgetfm.errors import InputError, listed


@dataclass(frozen=True)
class TrainConfig:
    """One run.

    family, task: what is trained; model: the fields of the family's config. What follows from
    the data (image size, channels, number of labels) may be left out there.
    dataset: 'digits', or a .npz file or an image folder, relative to the configuration.
    batch: images a step. warmup: share of all steps in which the learning rate rises to
    `learning_rate`; it then falls to zero along a cosine. clip: the largest norm of the gradient.
    shift: the most pixels by which a training image is moved in each direction.
    threads: of PyTorch; 0 is its own choice. One is the fastest for a very small model.
    """

    family: str
    task: str
    dataset: str
    epochs: int
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.1
    label_smoothing: float = 0.0
    clip: float = 1.0
    shift: int = 0
    seed: int = 0
    threads: int = 0
    model: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {value!r}, expected {kind}"
            for name, kind in _KINDS.items()
            if not _is(value := getattr(self, name), kind)
        ]
        if not problems:
            problems = [
                f"{name} is {getattr(self, name)}, expected {low} to {high}"
                for name, (low, high) in _RANGES.items()
                if not low <= getattr(self, name) <= high
            ]
        if problems:
            raise InputError(f"the training configuration cannot be used:\n{listed(problems)}")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The configuration in `data`; an InputError lists every key that is wrong."""
        known = {f.name for f in fields(cls)}
        problems = [f"unknown key '{key}'" for key in data if key not in known]
        if problems:
            problems.append(f"known keys are {', '.join(f.name for f in fields(cls))}")
        problems += [f"missing key '{key}'" for key in _REQUIRED if key not in data]
        if problems:
            raise InputError(f"the training configuration cannot be used:\n{listed(problems)}")
        return cls(**data)

    def to_json(self) -> dict[str, Any]:
        """The form it has in metrics.json."""
        return asdict(self)


_REQUIRED = ("family", "task", "dataset", "epochs")
_KINDS = {
    **dict.fromkeys(("family", "task", "dataset"), "a text"),
    **dict.fromkeys(("epochs", "batch", "shift", "seed", "threads"), "a whole number"),
    **dict.fromkeys(
        ("learning_rate", "weight_decay", "warmup", "label_smoothing", "clip"), "a number"
    ),
    "model": "a table",
}
_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, 100_000),
    "batch": (1, 1_000_000),
    "learning_rate": (1e-12, 1e3),
    "weight_decay": (0, 1e3),
    "warmup": (0, 1),
    "label_smoothing": (0, 0.99),
    "clip": (1e-12, 1e12),
    "shift": (0, 1_000),
    "seed": (0, 2**63 - 1),
    "threads": (0, 4096),
}


def _is(value: object, kind: str) -> bool:
    match kind:
        case "a text":
            return isinstance(value, str)
        case "a table":
            return isinstance(value, dict)
        case "a whole number":
            return isinstance(value, int) and not isinstance(value, bool)
        case _:
            return _is(value, "a whole number") or (
                isinstance(value, float) and math.isfinite(value)
            )


def load_config(
    config: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None
) -> TrainConfig:
    """The configuration in a TOML file, or of this name among those that ship.

    overrides: values by key, 'epochs' or 'model.width'. A dataset's path is relative to the file.
    """
    path = _find(config)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a TOML file that can be read: {error}") from error
    dataset = data.get("dataset")
    if isinstance(dataset, str) and (path.parent / dataset).exists():
        data["dataset"] = str(path.parent / dataset)
    for key, value in (overrides or {}).items():
        table, dot, name = key.partition(".")
        if not dot:
            data[key] = value
        elif isinstance(inner := data.setdefault(table, {}), dict):
            inner[name] = value
        else:
            raise InputError(f"'{key}' cannot be set: {table} is not a table")
    return TrainConfig.from_dict(data)


def shipped_configs() -> dict[str, Path]:
    """The configurations that ship, by name."""
    folder = Path(str(files("edgetfm.configs")))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def _find(config: str | os.PathLike[str]) -> Path:
    path = Path(config)
    if path.suffix == ".toml" and path.is_file():
        return path
    shipped = shipped_configs()
    if str(config) in shipped:
        return shipped[str(config)]
    raise InputError(
        f"no training configuration '{config}': give a .toml file or one of {', '.join(shipped)}"
    )
