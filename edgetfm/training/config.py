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
from edgetfm.training.data.parts import Shares
from edgetfm.training.schedules import SCHEDULES

LEAST_VOCABULARY = 260
"""The 256 bytes, of which any text can be written, and the special tokens."""


@dataclass(frozen=True)
class TrainConfig:
    """One run.

    family, task: what is trained; model: the fields of the family's config. What follows from
    the data (image size, channels, vocabulary, number of labels) may be left out there.
    dataset: the name of a data set, or a file or folder, relative to the configuration;
    validation, test: the shares of it that judge during training and once it is over.
    objective: how the task is learned; '' is the task's usual way.
    length: the most tokens of a row. tokenizer: `kind` and `vocabulary` of one to make, or the
    `path` of one; none is asked where `start` has one.
    batch: rows a step, over all processes. schedule: how the learning rate falls from
    `learning_rate`, to which it rises in a share of `warmup` of all steps. clip: the largest norm
    of the gradient. shift: the most pixels by which a training image is moved in each direction.
    save_every: steps between two saves beside those at the end of each epoch; 0 is none.
    threads: of PyTorch; 0 is its own choice. One is the fastest for a very small model.
    """

    family: str
    task: str
    dataset: str
    epochs: int
    objective: str = ""
    validation: float = 0.15
    test: float = 0.2
    length: int = 128
    batch: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    schedule: str = "cosine"
    warmup: float = 0.1
    label_smoothing: float = 0.0
    clip: float = 1.0
    shift: int = 0
    precision: str = "fp32"
    save_every: int = 0
    seed: int = 0
    threads: int = 0
    start: str = ""
    tokenizer: dict[str, Any] = field(default_factory=dict)
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
            problems += [
                f"{name} is '{getattr(self, name)}', expected one of {', '.join(known)}"
                for name, known in _CHOICES.items()
                if getattr(self, name) not in known
            ]
            problems += _tokenizer_problems(self.tokenizer)
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

    @property
    def shares(self) -> Shares:
        """How the data is divided."""
        return Shares(self.validation, self.test)

    def to_json(self) -> dict[str, Any]:
        """The form it has in metrics.json."""
        return asdict(self)


_REQUIRED = ("family", "task", "dataset", "epochs")
_TEXTS = ("family", "task", "dataset", "objective", "schedule", "precision", "start")
_WHOLE = ("epochs", "length", "batch", "shift", "save_every", "seed", "threads")
_KINDS = {
    **dict.fromkeys(_TEXTS, "a text"),
    **dict.fromkeys(_WHOLE, "a whole number"),
    **dict.fromkeys(
        ("validation", "test", "learning_rate", "weight_decay", "warmup", "label_smoothing"),
        "a number",
    ),
    "clip": "a number",
    **dict.fromkeys(("tokenizer", "model"), "a table"),
}
_RANGES: dict[str, tuple[float, float]] = {
    "epochs": (1, 100_000),
    "validation": (1e-6, 0.5),
    "test": (1e-6, 0.5),
    "length": (2, 1_000_000),
    "batch": (1, 1_000_000),
    "learning_rate": (1e-12, 1e3),
    "weight_decay": (0, 1e3),
    "warmup": (0, 1),
    "label_smoothing": (0, 0.99),
    "clip": (1e-12, 1e12),
    "shift": (0, 1_000),
    "save_every": (0, 2**63 - 1),
    "seed": (0, 2**63 - 1),
    "threads": (0, 4096),
}
_CHOICES = {"schedule": tuple(SCHEDULES), "precision": ("fp32", "bf16", "fp16")}


def _tokenizer_problems(table: Mapping[str, Any]) -> list[str]:
    """What is wrong in the table `tokenizer`."""
    kinds = {"kind": "a text", "vocabulary": "a whole number", "path": "a text"}
    problems = [
        f"unknown key 'tokenizer.{key}', known are {', '.join(kinds)}"
        for key in table
        if key not in kinds
    ]
    problems += [
        f"tokenizer.{key} is {table[key]!r}, expected {kind}"
        for key, kind in kinds.items()
        if key in table and not _is(table[key], kind)
    ]
    vocabulary = table.get("vocabulary", LEAST_VOCABULARY)
    if not problems and not LEAST_VOCABULARY <= vocabulary <= 1_000_000:
        problems.append(
            f"tokenizer.vocabulary is {vocabulary}, expected {LEAST_VOCABULARY} to 1000000"
        )
    return problems


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
    for key in ("dataset", "start"):
        _beside(path, data, key)
    if isinstance(tokenizer := data.get("tokenizer"), dict):
        _beside(path, tokenizer, "path")
    for key, value in (overrides or {}).items():
        table, dot, name = key.partition(".")
        if not dot:
            data[key] = value
        elif isinstance(inner := data.setdefault(table, {}), dict):
            inner[name] = value
        else:
            raise InputError(f"'{key}' cannot be set: {table} is not a table")
    return TrainConfig.from_dict(data)


def _beside(config: Path, table: dict[str, Any], key: str) -> None:
    """A path in a configuration is looked for beside it first."""
    value = table.get(key)
    if isinstance(value, str) and value and (config.parent / value.partition("::")[0]).exists():
        table[key] = str(config.parent / value)


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
