"""Captions: what is written about each picture, token by token.

Vinyals et al. 2014, https://arxiv.org/abs/1411.4555.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgetfm.errors import InputError
from edgetfm.training.config import TrainConfig
from edgetfm.training.data.described import described_pictures
from edgetfm.training.data.images import flipped, pixel_values
from edgetfm.training.data.parts import PARTS, Part
from edgetfm.training.objectives._objective import IGNORED, Batch, Rows
from edgetfm.training.objectives._text import padded, tokenizer_for, writing_files
from edgetfm.training.objectives.labels import text_feeds
from edgetfm.training.objectives.pairs import decoder_start
from edgetfm.training.objectives.pictures import EXAMPLES, SAMPLES, pngs, preprocessor

if TYPE_CHECKING:
    from torch import Tensor

MEASURE = "exact_match"
CUT = 0.01
"""The largest share of captions that may be longer than a row. Of those only the start is learned,
and none counts as right: a note says how many there are.
"""


class Captions:
    """Pictures of one size, each with a text of at most `config.length` tokens, its end among them.

    The measure is the share of captions that are written to the last token as they are given: the
    likeliest token, given those before, is the right one each time, which is when a greedy writer
    writes them. One that was cut is never right: the end of its row is not its own.
    """

    measure = MEASURE
    labels: tuple[str, ...] = ()

    def __init__(self, config: TrainConfig) -> None:
        self.flip = config.flip
        self.pictures = pictures = described_pictures(config)
        self.data = pictures.facts
        self.tokenizer = tokenizer_for(config, pictures.first("train"), "text2text")
        self.pad, self.end = self.tokenizer.number("pad"), self.tokenizer.number("eos")
        self.start = decoder_start(self.tokenizer, config)
        said = self.tokenizer.ids([row[0] for row in pictures.texts], special=False)
        self._check_lengths([len(ids) for ids in said], config)
        self.ids = [[*ids, self.end][: config.length] for ids in said]

    def _check_lengths(self, lengths: Sequence[int], config: TrainConfig) -> None:
        """Few captions, or none, are longer than a row, over all parts; lengths: of each kind."""
        held = {part: self.pictures.parts[part].kinds for part in PARTS}
        cut = {
            part: sum(lengths[kind] >= config.length for kind in kinds)
            for part, kinds in held.items()
        }
        all_cut, count = sum(cut.values()), sum(map(len, held.values()))
        if all_cut > CUT * count:
            raise InputError(
                f"{all_cut} of {count} captions have more tokens than a row of "
                f"{config.length} (length) holds, the longest {max(lengths)} and the one that ends "
                f"it: give a larger length, or a tokenizer.vocabulary above "
                f"{self.tokenizer.vocabulary}, whose tokens are longer"
            )
        if all_cut:
            of_parts = ", ".join(f"{cut[part]} of {len(held[part])} in {part}" for part in PARTS)
            self.data.notes.append(
                f"captions with more tokens than a row of {config.length} (length) holds are cut, "
                f"and count as wrong: {of_parts}"
            )

    def follows(self) -> Mapping[str, Any]:
        """The size of the pictures and the number of tokens."""
        return {**self.pictures.sizes, "vocabulary": self.tokenizer.vocabulary}

    def batch(self, part: Part, rows: Rows, random: np.random.Generator | None) -> Batch:
        """Pictures, in training some of them mirrored, and the texts behind their first token."""
        held = self.pictures.parts[part]
        targets = [self.ids[kind] for kind in held.kinds[rows]]
        decoder = text_feeds([[self.start, *row[:-1]] for row in targets], self.pad)
        images = held.images[rows]
        if random is not None:
            images = flipped(images, self.flip, random)
        feeds = {
            "pixel_values": pixel_values(images),
            "decoder_input_ids": decoder["input_ids"],
            "decoder_attention_mask": decoder["attention_mask"],
        }
        return Batch(feeds, padded(targets, IGNORED))

    def judge(self, outputs: Mapping[str, Tensor], batch: Batch) -> list[bool]:
        """Of each caption, whether every token is the likeliest, and it is there to its end."""
        likeliest, targets = outputs["logits"].argmax(-1).cpu().numpy(), batch.targets
        last = (targets != IGNORED).sum(1) - 1
        whole = targets[np.arange(len(targets)), last] == self.end
        right: list[bool] = (
            ((likeliest == targets) | (targets == IGNORED)).all(1) & whole
        ).tolist()
        return right

    def score(self, evidence: Sequence[bool]) -> float:
        """The share of captions that are right."""
        return float(np.mean(evidence))

    def lengths(self, part: Part) -> None:
        """All pictures are of one size."""

    def files(self, inputs: tuple[str, ...]) -> Mapping[str, bytes]:
        """The tokenizer, how pictures are made ready, validation pictures, a few to try."""
        held, tried = (self.pictures.parts[part] for part in (PARTS[1], PARTS[2]))
        sample = io.BytesIO()
        np.savez(sample, pixel_values=pixel_values(held.images[:SAMPLES]))
        return {
            **self.tokenizer.files(),
            **writing_files(self.start, self.end, self.pad),
            "preprocessor_config.json": preprocessor(*held.images.shape[1:]),
            "sample.npz": sample.getvalue(),
            **pngs({f"examples/{i}.png": one for i, one in enumerate(tried.images[:EXAMPLES])}),
        }
