"""The families by name and by Hugging Face model type. Modules are imported on use."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points

from edgetfm.errors import SourceError
from edgetfm.models._family import Family


@dataclass(frozen=True)
class Row:
    """A family as the table lists it; a test compares the table with the files."""

    module: str
    model_types: tuple[str, ...]
    tasks: tuple[str, ...]


TABLE: dict[str, Row] = {
    "bert": Row(
        "edgetfm.models.bert",
        ("bert", "roberta", "distilbert", "mpnet"),
        (
            "feature-extraction",
            "fill-mask",
            "question-answering",
            "text-classification",
            "token-classification",
        ),
    ),
    "captioner": Row("edgetfm.models.captioner", (), ("image-to-text",)),
    "clip": Row("edgetfm.models.clip", ("clip",), ("zero-shot-image-classification",)),
    "detr": Row("edgetfm.models.detr", ("detr",), ("object-detection",)),
    "gpt": Row("edgetfm.models.gpt", ("gpt2",), ("text-generation",)),
    "llama": Row(
        "edgetfm.models.llama",
        ("llama", "mistral", "qwen2", "qwen3", "gemma3_text"),
        ("text-generation",),
    ),
    "memory": Row("edgetfm.models.memory", (), ("text-generation",)),
    "moe": Row("edgetfm.models.moe", ("mixtral",), ("text-generation",)),
    "multimodal": Row("edgetfm.models.multimodal", (), ("multimodal-classification",)),
    "segmenter": Row("edgetfm.models.segmenter", (), ("image-segmentation",)),
    "t5": Row(
        "edgetfm.models.t5", ("t5",), ("text2text-generation", "translation", "summarization")
    ),
    "transformer": Row(
        "edgetfm.models.transformer",
        ("bart", "marian"),
        ("text2text-generation", "translation", "summarization"),
    ),
    "vit": Row(
        "edgetfm.models.vit",
        ("vit", "deit"),
        ("image-classification", "image-feature-extraction"),
    ),
    "whisper": Row("edgetfm.models.whisper", ("whisper",), ("automatic-speech-recognition",)),
}

ENTRY_POINTS = "edgetfm.families"
"""Other people's families: an entry point of this group names a `Family`."""


def family_named(name: str) -> Family:
    """The family of this name, ours or an entry point's."""
    if name in TABLE:
        family: Family = import_module(TABLE[name].module).FAMILY
        return family
    for entry in entry_points(group=ENTRY_POINTS, name=name):
        loaded: Family = entry.load()
        return loaded
    raise SourceError(f"unknown family '{name}'; known are {', '.join(TABLE)}")


def family_for(model_type: str) -> Family | None:
    """The family that takes this Hugging Face model type, or None."""
    for name, row in TABLE.items():
        if model_type in row.model_types:
            return family_named(name)
    for entry in entry_points(group=ENTRY_POINTS):
        family: Family = entry.load()
        if family.from_hf and model_type in family.from_hf.model_types:
            return family
    return None
