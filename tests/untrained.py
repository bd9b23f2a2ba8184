"""Checkpoints of edgetfm's own families that have learned nothing, with their data's files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from edgetfm.models import family_named
from edgetfm.training import TrainConfig
from edgetfm.training.checkpoint import write_checkpoint
from edgetfm.training.objectives import objective_of
from edgetfm.training.run import model_config

WORDS = {"length": 48, "tokenizer": {"vocabulary": 300}}
"""What a family is told that reads texts, too."""


def untrained(family: str, task: str, folder: Path, model: dict[str, Any], **others: Any) -> Path:
    """Write one of these sizes to a new folder; it knows a few generated scenes."""
    settings: dict[str, Any] = {"dataset": "scenes:12", "validation": 0.3, "epochs": 1}
    config = TrainConfig(**settings | {"family": family, "task": task, "model": model} | others)
    found, objective = family_named(family), objective_of(config)
    sizes = model_config(found, config, objective)
    torch.manual_seed(0)
    inputs = tuple(t.name for t in found.inputs(sizes, task))
    write_checkpoint(
        folder, family=found, task=task, config=sizes, labels=objective.labels,
        weights=found.build(sizes, task).state_dict(), metrics={}, files=objective.files(inputs),
    )  # fmt: skip
    return folder
