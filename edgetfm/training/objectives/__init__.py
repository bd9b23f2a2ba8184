"""The objectives by name, and the one that each task is learned by unless the config says."""

from __future__ import annotations

from collections.abc import Callable

from edgetfm.errors import InputError
from edgetfm.training.config import TrainConfig
from edgetfm.training.objectives._objective import IGNORED, Batch, Objective
from edgetfm.training.objectives.causal import Causal
from edgetfm.training.objectives.labels import Labels
from edgetfm.training.objectives.masked import Masked
from edgetfm.training.objectives.pairs import Pairs
from edgetfm.training.objectives.pictures import Pictures
from edgetfm.training.objectives.spans import Spans
from edgetfm.training.objectives.speech import Speech

OBJECTIVES: dict[str, Callable[[TrainConfig], Objective]] = {
    "causal": Causal,
    "masked": Masked,
    "text-classification": Labels,
    "image-classification": Pictures,
    "seq2seq": Pairs,
    "spans": Spans,
    "speech": Speech,
}

OF_TASK: dict[str, tuple[str, ...]] = {
    "text-generation": ("causal",),
    "fill-mask": ("masked",),
    "text-classification": ("text-classification",),
    "image-classification": ("image-classification",),
    "translation": ("seq2seq",),
    "summarization": ("seq2seq",),
    "text2text-generation": ("seq2seq", "spans"),
    "automatic-speech-recognition": ("speech",),
}
"""A task -> the objectives that it is learned by, the usual one first."""


def objective_of(config: TrainConfig) -> Objective:
    """What a configuration asks for, with its data read; InputError for what cannot be learned."""
    if config.task not in OF_TASK:
        raise InputError(f"training knows the tasks {', '.join(OF_TASK)}, got '{config.task}'")
    known = OF_TASK[config.task]
    name = config.objective or known[0]
    if name not in known:
        raise InputError(f"objective is '{name}', {config.task} is learned by {' or '.join(known)}")
    return OBJECTIVES[name](config)


__all__ = ["IGNORED", "OBJECTIVES", "OF_TASK", "Batch", "Objective", "objective_of"]
