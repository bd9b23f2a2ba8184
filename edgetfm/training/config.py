"""What a training run is told: a TOML file, checked whole before any work is done."""

from __future__ import annotations

import math
import os
import re
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
    columns: which column of a table is the 'text', the 'label', the 'source' or the 'target',
    where it cannot be told by its name; 'part' says which rows are train, validation and test, as
    where no speaker may be in two.
    length: the most tokens of a row. tokenizer: `kind` and `vocabulary` of one to make, or the
    `path` of one; none is asked where `start` has one.
    batch: rows a step, over all processes. schedule: how the learning rate falls from
    `learning_rate`, to which it rises in a share of `warmup` of all steps. clip: the largest norm
    of the gradient. shift: the most pixels by which a training image is moved in each direction.
    flip: how training images with marks are mirrored at random: '', 'across' or 'both' ways.
    start: a checkpoint or Hugging Face folder whose weights are started from; a head of another
    task or size starts fresh. freeze: patterns of the names of weights that stay as they are.
    layer_decay: what the learning rate is multiplied by from one layer to the one below.
    teacher: the `source` of a model whose answers are learned too: `weight` is their share of the
    loss, `temperature` divides both models' logits.
    precision: fp32, or bf16 or fp16 for most products. gradient_checkpointing: layers are
    computed twice, and their inner results not kept.
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
    flip: str = ""
    precision: str = "fp32"
    save_every: int = 0
    seed: int = 0
    threads: int = 0
    start: str = ""
    freeze: list[str] = field(default_factory=list)
    layer_decay: float = 1.0
    gradient_checkpointing: bool = False
    columns: dict[str, Any] = field(default_factory=dict)
    teacher: dict[str, Any] = field(default_factory=dict)
    tokenizer: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {value!r}, expected {kind}"
            for name, kind in _KINDS.items()
            if not _is(value := getattr(self, name), kind)
        ]
        problems += [f"{name} is empty" for name in _REQUIRED if getattr(self, name, None) == ""]
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
            for table in _TABLES:
                problems += _table_problems(table, getattr(self, table))
            problems += _bad_patterns(self.freeze)
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
_TEXTS = ("family", "task", "dataset", "objective", "flip", "schedule", "precision", "start")
_WHOLE = ("epochs", "length", "batch", "shift", "save_every", "seed", "threads")
_KINDS = {
    **dict.fromkeys(_TEXTS, "a text"),
    **dict.fromkeys(_WHOLE, "a whole number"),
    **dict.fromkeys(
        ("validation", "test", "learning_rate", "weight_decay", "warmup", "label_smoothing"),
        "a number",
    ),
    "clip": "a number",
    "layer_decay": "a number",
    "gradient_checkpointing": "true or false",
    "freeze": "a list of texts",
    **dict.fromkeys(("tokenizer", "model", "columns", "teacher"), "a table"),
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
    "layer_decay": (1e-6, 1),
    "shift": (0, 1_000),
    "save_every": (0, 2**63 - 1),
    "seed": (0, 2**63 - 1),
    "threads": (0, 4096),
}
_CHOICES = {
    "schedule": tuple(SCHEDULES),
    "precision": ("fp32", "bf16", "fp16"),
    "flip": ("", "across", "both"),
}


_TABLES: dict[str, dict[str, str]] = {
    "tokenizer": {"kind": "a text", "vocabulary": "a whole number", "path": "a text"},
    "columns": dict.fromkeys(("text", "label", "source", "target", "audio", "part"), "a text"),
    "teacher": {"source": "a text", "weight": "a number", "temperature": "a number"},
}
_TABLE_RANGES = {
    "tokenizer.vocabulary": (LEAST_VOCABULARY, 1_000_000),
    "teacher.weight": (0, 1),
    "teacher.temperature": (1e-3, 1e3),
}


def _table_problems(name: str, table: Mapping[str, Any]) -> list[str]:
    """What is wrong in one of the tables but `model`, which is the family's."""
    kinds = _TABLES[name]
    problems = [
        f"unknown key '{name}.{key}', known are {', '.join(kinds)}"
        for key in table
        if key not in kinds
    ]
    for key, kind in kinds.items():
        if key not in table:
            continue
        low, high = _TABLE_RANGES.get(f"{name}.{key}", (-math.inf, math.inf))
        if not _is(table[key], kind):
            problems.append(f"{name}.{key} is {table[key]!r}, expected {kind}")
        elif kind != "a text" and not low <= table[key] <= high:
            problems.append(f"{name}.{key} is {table[key]}, expected {low} to {high}")
    if name == "teacher" and table and "source" not in table:
        problems.append("missing key 'teacher.source'")
    return problems


def _bad_patterns(patterns: list[str]) -> list[str]:
    problems = []
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            problems.append(f"freeze has '{pattern}', which is no regular expression: {error}")
    return problems


def _is(value: object, kind: str) -> bool:
    match kind:
        case "a text":
            return isinstance(value, str)
        case "a table":
            return isinstance(value, dict)
        case "true or false":
            return isinstance(value, bool)
        case "a list of texts":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
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
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a TOML file that can be read: {error}") from error
    for key in ("dataset", "start"):
        _beside(path, data, key)
    for table, key in (("tokenizer", "path"), ("teacher", "source")):
        if isinstance(inner := data.get(table), dict):
            _beside(path, inner, key)
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
