"""The senses, one row each: what people give a model, and what a graph takes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from edgetfm.signature import Signature

Modality = Literal[
    "text", "image", "audio", "image-text", "audio-text", "text-image-audio", "arrays"
]


@dataclass(frozen=True)
class Sense:
    """One sense.

    prepared: the key of a manifest's preprocessing that says how its inputs are made. inputs:
    what they are called in a graph that takes other senses too. axes: how many an input may have.
    single: whether it is always one input.
    """

    prepared: str
    inputs: tuple[str, ...]
    axes: tuple[int, ...]
    single: bool = False

    @property
    def takes(self) -> str:
        """What a graph has to take, in words."""
        axes = " or ".join(map(str, self.axes))
        return f"one input of {axes} axes" if self.single else f"inputs of {axes} axes"


SENSES: dict[str, Sense] = {
    "text": Sense("tokenizer", ("input_ids", "attention_mask", "token_type_ids"), (2,)),
    "image": Sense("image", ("pixel_values",), (4,), single=True),
    "audio": Sense("audio", ("input_values", "input_features"), (2, 3, 4)),
}

OF_MODALITY: dict[Modality, tuple[str, ...]] = {
    "text": ("text",),
    "image": ("image",),
    "audio": ("audio",),
    "image-text": ("text", "image"),
    "audio-text": ("text", "audio"),
    "text-image-audio": ("text", "image", "audio"),
    "arrays": (),
}
"""Modality -> its senses, in the order of a graph's inputs."""

SENSES_MASK = "senses_mask"
"""The input, int64 [batch, senses], that says which senses of a row are there."""


def part_of(signature: Signature, sense: str, senses: tuple[str, ...]) -> Signature:
    """The signature with the inputs of one of a model's senses; all of them where it has one."""
    signature = signature.of_whole_texts.of_source
    if senses == (sense,):
        return signature
    names = SENSES[sense].inputs
    return replace(signature, inputs=tuple(t for t in signature.inputs if t.name in names))
