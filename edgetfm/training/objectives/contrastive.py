"""Pictures and texts that belong together become alike, those that do not become unlike.

Radford et al. 2021, https://arxiv.org/abs/2103.00020, section 2.3. Where a text is said of several
pictures of a batch all of them are right, as in Yang et al. 2022, https://arxiv.org/abs/2204.03610.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgetfm.training.config import TrainConfig
from edgetfm.training.data.described import described_pictures
from edgetfm.training.data.images import flipped, pixel_values, shifted
from edgetfm.training.data.parts import Part
from edgetfm.training.objectives._objective import Batch, Rows
from edgetfm.training.objectives._text import tokenizer_for
from edgetfm.training.objectives.labels import text_feeds
from edgetfm.training.objectives.pictures import EXAMPLES, SAMPLES, pngs, preprocessor

MEASURE = "recall_at_1"


class Contrastive:
    """Pictures of one size, each with texts of at most `config.length` tokens.

    In training one of a picture's texts is drawn. The measure is the share of pictures to which
    the text that is most alike, of all that are said first of any, is one of their own.
    """

    measure = MEASURE
    labels: tuple[str, ...] = ()

    def __init__(self, config: TrainConfig) -> None:
        self.flip, self.shift = config.flip, config.shift
        self.pictures = pictures = described_pictures(config)
        self.data = pictures.facts
        self.texts = tuple(dict.fromkeys(text for row in pictures.texts for text in row))
        seen = {int(kind) for kind in pictures.parts["train"].kinds}
        known = dict.fromkeys(t for kind in sorted(seen) for t in pictures.texts[kind])
        self.tokenizer = tokenizer_for(config, known, "wordpiece")
        self.pad = self.tokenizer.number("pad")
        self.tokenizer.tokenizer.enable_truncation(config.length)
        self.ids = self.tokenizer.ids(self.texts, special=True)
        self.tokenizer.tokenizer.no_truncation()
        number = {text: i for i, text in enumerate(self.texts)}
        self.of_kind = [[number[text] for text in row] for row in pictures.texts]
        self.said = torch.zeros(len(pictures.texts), len(self.texts))
        for kind, row in enumerate(self.of_kind):
            self.said[kind, row] = 1.0

    def follows(self) -> Mapping[str, Any]:
        """The size of the pictures, the number of tokens, and the one that ends a text."""
        end = self.tokenizer.number("sep")
        return {**self.pictures.sizes, "vocabulary": self.tokenizer.vocabulary, "end": end}

    def batch(self, part: Part, rows: Rows, random: np.random.Generator | None) -> Batch:
        """Pictures, in training moved and mirrored, each with a text; targets are the texts."""
        held = self.pictures.parts[part]
        images, kinds = held.images[rows], held.kinds[rows]
        texts = [self.of_kind[kind] for kind in kinds]
        if random is not None:
            images = flipped(shifted(images, self.shift, random), self.flip, random)
            chosen = np.array([row[random.integers(len(row))] for row in texts])
        else:
            chosen = np.array([row[0] for row in texts])
        feeds = text_feeds([self.ids[text] for text in chosen], self.pad)
        return Batch(feeds | {"pixel_values": pixel_values(images), "kinds": kinds}, chosen)

    def loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """What pictures say of texts and texts of pictures, the mean of both; 0 is all right."""
        logits = outputs["logits_per_image"].float()
        kinds, texts = torch.from_numpy(batch.feeds["kinds"]), torch.from_numpy(batch.targets)
        right = self.said[kinds][:, texts].to(logits.device)
        return (_divergence(logits, right) + _divergence(logits.t(), right.t())) / 2

    def judge(self, outputs: Mapping[str, Tensor], batch: Batch) -> list[tuple[Any, ...]]:
        """The vectors of each picture and of its text, its kind, and the text's number."""
        pictures, texts = (
            outputs[f"{sense}_embeds"].float().cpu().numpy() for sense in ("image", "text")
        )
        return list(zip(pictures, texts, batch.feeds["kinds"], batch.targets, strict=True))

    def score(self, evidence: Sequence[tuple[Any, ...]]) -> float:
        """Recall at 1 of the texts of each picture."""
        texts = {int(number): vector for _, vector, _, number in evidence}
        vectors: NDArray[np.float32] = np.stack(list(texts.values()))
        numbers = np.array(list(texts))
        best = [numbers[(vectors @ picture).argmax()] for picture, _, _, _ in evidence]
        right = [self.said[int(row[2]), int(n)] for row, n in zip(evidence, best, strict=True)]
        return float(np.mean(right))

    def lengths(self, part: Part) -> None:
        """All pictures are of one size."""

    def files(self, inputs: tuple[str, ...]) -> Mapping[str, bytes]:
        """The tokenizer, how pictures are made ready, validation pairs, a few to try."""
        held, tried = self.pictures.parts["validation"], self.pictures.parts["test"]
        random = np.random.default_rng(0)
        texts = [random.choice(self.of_kind[kind]) for kind in held.kinds[:SAMPLES]]
        feeds = text_feeds([self.ids[text] for text in texts], self.pad)
        feeds["pixel_values"] = pixel_values(held.images[:SAMPLES])
        sample = io.BytesIO()
        np.savez(sample, **{name: array for name, array in feeds.items() if name in inputs})
        return {
            **self.tokenizer.files(),
            "preprocessor_config.json": preprocessor(*held.images.shape[1:]),
            "sample.npz": sample.getvalue(),
            **pngs({f"examples/{i}.png": one for i, one in enumerate(tried.images[:EXAMPLES])}),
        }


def _divergence(logits: Tensor, right: Tensor) -> Tensor:
    """Cross entropy with the right answers of each row, all alike, less their own; [rows, answers].

    Where one answer of a row is right it is the cross entropy of the paper.
    """
    shares = right / right.sum(1, keepdim=True)
    told = shares.clamp(min=1e-12).log() - logits.log_softmax(1)
    return (shares * told).sum()
