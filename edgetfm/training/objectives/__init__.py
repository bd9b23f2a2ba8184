"""The objectives by name, and the one that each task is learned by unless the config says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields

from edgetfm.errors import InputError, listed
from edgetfm.tables import PAIRS
from edgetfm.training.config import TrainConfig
from edgetfm.training.data import sounds
from edgetfm.training.data.tables import PART
from edgetfm.training.objectives import labels
from edgetfm.training.objectives._objective import (
    IGNORED,
    Batch,
    Objective,
    OwnLoss,
    OwnMeasure,
)
from edgetfm.training.objectives.captions import Captions
from edgetfm.training.objectives.causal import Causal
from edgetfm.training.objectives.contrastive import Contrastive
from edgetfm.training.objectives.detection import Detection
from edgetfm.training.objectives.labels import Labels
from edgetfm.training.objectives.masked import Masked
from edgetfm.training.objectives.pairs import Pairs
from edgetfm.training.objectives.pictures import Pictures
from edgetfm.training.objectives.segmentation import Segmentation
from edgetfm.training.objectives.senses import Senses
from edgetfm.training.objectives.spans import Spans
from edgetfm.training.objectives.speech import Speech

OBJECTIVES: dict[str, Callable[[TrainConfig], Objective]] = {
    "causal": Causal,
    "masked": Masked,
    "text-classification": Labels,
    "image-classification": Pictures,
    "captions": Captions,
    "contrastive": Contrastive,
    "senses": Senses,
    "detection": Detection,
    "segmentation": Segmentation,
    "seq2seq": Pairs,
    "spans": Spans,
    "speech": Speech,
}

OF_TASK: dict[str, tuple[str, ...]] = {
    "text-generation": ("causal",),
    "fill-mask": ("masked",),
    "text-classification": ("text-classification",),
    "image-classification": ("image-classification",),
    "image-to-text": ("captions",),
    "multimodal-classification": ("senses",),
    "zero-shot-image-classification": ("contrastive",),
    "object-detection": ("detection",),
    "image-segmentation": ("segmentation",),
    "translation": ("seq2seq",),
    "summarization": ("seq2seq",),
    "text2text-generation": ("seq2seq", "spans"),
    "automatic-speech-recognition": ("speech",),
}
"""A task -> the objectives that it is learned by, the usual one first."""


COLUMNS: dict[str, tuple[str, ...]] = {
    "text-classification": (*labels.COLUMNS, PART),
    "seq2seq": (*PAIRS, PART),
    "speech": (*sounds.COLUMNS, PART),
}
"""An objective that reads tables -> what a configuration may name a column for."""


_OWN_LOSS = ("contrastive", "detection", "segmentation")
_NO_TEXT = ("image-classification", "detection", "segmentation")
OPTIONS: dict[str, tuple[str, ...]] = {
    "shift": ("image-classification", "contrastive"),
    "flip": ("captions", "contrastive", "detection", "segmentation"),
    "tokenizer": tuple(name for name in OBJECTIVES if name not in _NO_TEXT),
    "label_smoothing": tuple(name for name in OBJECTIVES if name not in _OWN_LOSS),
    "teacher": tuple(name for name in OBJECTIVES if name not in _OWN_LOSS),
}
"""Settings that not every objective knows -> those that do."""


def objective_of(config: TrainConfig) -> Objective:
    """What a configuration asks for, with its data read; InputError for what cannot be learned."""
    if config.task not in OF_TASK:
        raise InputError(f"training knows the tasks {', '.join(OF_TASK)}, got '{config.task}'")
    known = OF_TASK[config.task]
    name = config.objective or known[0]
    if name not in known:
        raise InputError(f"objective is '{name}', {config.task} is learned by {' or '.join(known)}")
    read = COLUMNS.get(name, ())
    if unread := [f"columns.{key}" for key in config.columns if key not in read]:
        names = f"names columns for {', '.join(read)}" if read else "reads no column by its name"
        raise InputError(f"{' and '.join(unread)} cannot be used: the objective {name} {names}")
    if unused := _unused(config, name):
        raise InputError(f"the objective {name} would not use all that is set:\n{listed(unused)}")
    return OBJECTIVES[name](config)


def _unused(config: TrainConfig, name: str) -> list[str]:
    """What is set to no effect, and what it is for."""
    found = []
    for field in fields(config):
        usual = field.default if field.default_factory is MISSING else field.default_factory()
        value, known = getattr(config, field.name), OPTIONS.get(field.name, (name,))
        if name not in known and value != usual:
            found.append(f"{field.name} is {value!r}: only {', '.join(known)} use it, leave it out")
    return found


__all__ = [
    "IGNORED",
    "OBJECTIVES",
    "OF_TASK",
    "Batch",
    "Objective",
    "OwnLoss",
    "OwnMeasure",
    "objective_of",
]
