"""How each task takes what people give and answers in the form of Hugging Face's pipelines."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edgetfm.runtime.audio import sound_items
from edgetfm.runtime.tasks import (
    captions,
    classification,
    depth,
    detection,
    embeddings,
    fill_mask,
    generation,
    multimodal,
    other,
    question_answering,
    segmentation,
    sounds,
    speech,
    text_to_text,
    token_classification,
    zero_shot_image,
)
from edgetfm.runtime.tasks._texts import Asked, single_text_items, text_items


def image_items(inputs: Any) -> tuple[list[Any], bool]:
    """The pictures, and whether a single one was given: a list in gives a list out."""
    if isinstance(inputs, (str, os.PathLike)) or not isinstance(inputs, Sequence):
        return [inputs], True
    return list(inputs), False


@dataclass(frozen=True)
class Way:
    """One task: `items` reads what was given, `answer` gives one result an item.

    wrap: one text alone gets its one result in a list, as transformers has it for classification.
    """

    items: Callable[[Any], tuple[list[Any], bool]]
    answer: Callable[..., Any]
    wrap: bool = False


WAYS: dict[str, Way] = {
    "feature-extraction": Way(text_items, embeddings.embed_texts),
    "fill-mask": Way(single_text_items, fill_mask.fill_masks),
    "text-classification": Way(text_items, classification.classify_texts, wrap=True),
    "token-classification": Way(single_text_items, token_classification.classify_tokens),
    "question-answering": Way(question_answering.qa_items, question_answering.answer_questions),
    "image-classification": Way(image_items, classification.classify_images),
    "image-feature-extraction": Way(image_items, embeddings.embed_images),
    "text-generation": Way(generation.prompt_items, generation.generate_texts),
    "translation": Way(text_to_text.text_items, text_to_text.write_texts, wrap=True),
    "summarization": Way(text_to_text.text_items, text_to_text.write_texts, wrap=True),
    "text2text-generation": Way(text_to_text.text_items, text_to_text.write_texts, wrap=True),
    "image-to-text": Way(image_items, captions.write_captions, wrap=True),
    "object-detection": Way(image_items, detection.detect_objects),
    "image-segmentation": Way(image_items, segmentation.segment_images),
    "depth-estimation": Way(image_items, depth.estimate_depth),
    "zero-shot-image-classification": Way(image_items, zero_shot_image.match_labels),
    "audio-classification": Way(sound_items, sounds.classify_sounds),
    "automatic-speech-recognition": Way(sound_items, sounds.write_speech),
    "audio-feature-extraction": Way(sound_items, sounds.embed_sounds),
    "audio-frame-classification": Way(sound_items, sounds.classify_frames),
    "audio-xvector": Way(sound_items, sounds.embed_sounds),
    "multimodal-classification": Way(multimodal.sense_items, multimodal.classify_senses),
    "other": Way(other.any_items, other.answer_with_outputs),
}

WRITTEN: dict[str, Way] = {
    "automatic-speech-recognition": Way(sound_items, speech.transcribe),
}
"""Tasks that encoder-decoders do in another way: they write what others read off."""


def way_of(task: str, asked: Asked) -> Way:
    """How a model does a task."""
    if task in WRITTEN and asked.model.signature.has_source:
        return WRITTEN[task]
    return WAYS[task]


__all__ = ["WAYS", "WRITTEN", "Asked", "Way", "way_of"]
