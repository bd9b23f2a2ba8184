"""The objectives by name, and the one that each task is learned by unless the config says."""

from __future__ import annotations

from collections.abc import Callable

from edgetfm.errors import InputError
from edgetfm.training.config import TrainConfig
from edgetfm.training.objectives._objective import IGNORED, Batch, Objective
from edgetfm.training.objectives.causal import Causal
from edgetfm.training.objectives.pictures import Pictures

OBJECTIVES: dict[str, Callable[[TrainConfig], Objective]] = {
    "causal": Causal,
    "image-classification": Pictures,
}

OF_TASK = {
    "text-generation": "causal",
    "image-classification": "image-classification",
}
"""A task -> its objective."""


def objective_of(config: TrainConfig) -> Objective:
    """What a configuration asks for, with its data read; InputError for what cannot be learned."""
    if config.task not in OF_TASK:
        raise InputError(f"training knows the tasks {', '.join(OF_TASK)}, got '{config.task}'")
    name = config.objective or OF_TASK[config.task]
    if name not in OBJECTIVES:
        raise InputError(f"objective is '{name}', known are {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name](config)


__all__ = ["IGNORED", "OBJECTIVES", "OF_TASK", "Batch", "Objective", "objective_of"]
