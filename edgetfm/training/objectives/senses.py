"""Classification by several senses, any of which may be missing.

In training senses are left out at random, so that the others learn to do without them: Neverova et
al. 2015, "ModDrop", https://arxiv.org/abs/1501.00102.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetfm.errors import DataError, InputError, listed
from edgetfm.senses import SENSES_MASK
from edgetfm.training.config import TrainConfig
from edgetfm.training.data.images import pixel_values
from edgetfm.training.data.parts import PARTS, Part, divided
from edgetfm.training.objectives._objective import Batch, DataFacts, Rows
from edgetfm.training.objectives._text import tokenizer_for
from edgetfm.training.objectives.labels import text_feeds
from edgetfm.training.objectives.pictures import EXAMPLES, SAMPLES, pngs, preprocessor
from edgetfm.training.objectives.speech import HOP, RATE, extractor, reader_of, wav

MEASURE = "accuracy"
SENSES = ("text", "image", "audio")
LEFT_OUT = 0.25
"""How often a sense is left out in training; of a row that would have none all are there."""
KNOWN = (
    "a .npz file with texts [count], images uint8[count, height, width, 1 or 3], sounds "
    f"int16[count, samples] at {RATE} hertz, labels [count], and senses [count, 3] where some miss"
)


class Senses:
    """Rows of a text, a picture, a sound and a label."""

    measure = MEASURE

    def __init__(self, config: TrainConfig) -> None:
        path = Path(config.dataset)
        self.rows = rows = _read(path)
        self.labels = tuple(sorted(set(map(str, rows["labels"]))))
        if len(self.labels) < 2:
            raise DataError(f"{path}: {len(self.labels)} labels; a classifier needs 2")
        number = {label: i for i, label in enumerate(self.labels)}
        self.numbers = np.array([number[str(label)] for label in rows["labels"]])
        contents = _contents(rows)
        items = [(content, row) for row, content in enumerate(contents)]
        said = [str(part) for part in rows.get("part", ())]
        found = divided(items, said, config.shares, path.name)
        self.parts = {part: np.array(found[part]) for part in PARTS}
        frames, mels = config.model.get("frames", 50), config.model.get("mels", 40)
        seconds, rest = divmod(2 * HOP * int(frames), RATE)
        if rest or not seconds:
            raise InputError(f"model.frames is {frames}, expected whole seconds of {RATE // 320}")
        self.extractor = extractor(int(seconds), int(mels))
        reader = reader_of(self.extractor)
        waves = rows["sounds"].astype(np.float32) / 32768
        self.features = np.stack([reader.prepare(wave) for wave in waves])
        texts = [str(text) for text in rows["texts"]]
        self.tokenizer = tokenizer_for(config, [texts[i] for i in self.parts["train"]], "wordpiece")
        self.pad = self.tokenizer.number("pad")
        self.tokenizer.tokenizer.enable_truncation(config.length)
        self.ids = self.tokenizer.ids(texts, special=True)
        self.nothing = self.tokenizer.ids([""], special=True)[0]
        self.tokenizer.tokenizer.no_truncation()
        digest = hashlib.sha256(b"".join(hashlib.sha256(c).digest() for c in contents))
        digest.update(repr((texts, self.numbers.tolist(), rows["senses"].tolist())).encode())
        sizes = {part: len(self.parts[part]) for part in PARTS}
        self.data = DataFacts(path.stem, digest.hexdigest(), **sizes)

    def follows(self) -> Mapping[str, Any]:
        """The sizes of pictures and vocabulary, and the number of labels."""
        _, height, width, channels = self.rows["images"].shape
        return {
            "image_size": (height, width),
            "channels": channels,
            "vocabulary": self.tokenizer.vocabulary,
            "labels": len(self.labels),
        }

    def batch(self, part: Part, rows: Rows, random: np.random.Generator | None) -> Batch:
        """All senses of these rows; in training some are left out."""
        chosen = self.parts[part][rows]
        there = self.rows["senses"][chosen].astype(np.int64)
        if random is not None:
            kept = there * (random.random(there.shape) >= LEFT_OUT)
            there = np.where(kept.any(1, keepdims=True), kept, there)
        return Batch(self.feeds(chosen, there), self.numbers[chosen])

    def feeds(self, rows: Rows, there: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """The inputs of rows of the data; nothing stands where a sense is not `there`."""
        text, image, audio = (there[:, i].astype(bool) for i in range(len(SENSES)))
        ids = [self.ids[r] if t else self.nothing for r, t in zip(rows, text, strict=True)]
        pixels, features = pixel_values(self.rows["images"][rows]), self.features[rows]
        return {
            **text_feeds(ids, self.pad),
            "pixel_values": np.where(image[:, None, None, None], pixels, np.float32(-1)),
            "input_features": np.where(audio[:, None, None], features, np.float32(0)),
            SENSES_MASK: there,
        }

    def lengths(self, part: Part) -> None:
        """Texts are short."""

    def files(self, inputs: tuple[str, ...]) -> Mapping[str, bytes]:
        """How all senses are made ready, validation rows with their labels, a few to try."""
        chosen = self.parts["validation"][:SAMPLES]
        feeds = self.feeds(chosen, self.rows["senses"][chosen].astype(np.int64))
        sample = io.BytesIO()
        kept: dict[str, Any] = {name: feeds[name] for name in inputs}
        np.savez(sample, **kept, labels=self.numbers[chosen])
        tried = self.parts["test"][:EXAMPLES]
        said = {"feature_extractor": self.extractor}
        texts = [f"{self.rows['texts'][r]}\t{self.rows['labels'][r]}\n" for r in tried]
        waves = self.rows["sounds"].astype(np.float32) / 32768
        return {
            **self.tokenizer.files(),
            "preprocessor_config.json": preprocessor(*self.rows["images"].shape[1:]),
            "processor_config.json": (json.dumps(said, indent=2) + "\n").encode(),
            "sample.npz": sample.getvalue(),
            "examples/texts.tsv": "".join(texts).encode(),
            **{f"examples/{i}.wav": wav(waves[r]) for i, r in enumerate(tried)},
            **pngs({f"examples/{i}.png": self.rows["images"][r] for i, r in enumerate(tried)}),
        }


def _contents(rows: dict[str, Any]) -> list[bytes]:
    """What makes a row that row: its picture and its sound, or its text where it has neither."""
    found = []
    for text, image, sound, there in zip(
        *(rows[name] for name in ("texts", "images", "sounds", "senses")), strict=True
    ):
        held = (image.tobytes() if there[1] else b"") + (sound.tobytes() if there[2] else b"")
        found.append(held or str(text).encode())
    return found


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"no rows of several senses at {path}: give {KNOWN}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            rows = {name: archive[name] for name in archive.files}
        images, sounds, labels, texts = (rows[n] for n in ("images", "sounds", "labels", "texts"))
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}; expected {KNOWN}") from error
    rows["images"] = images = images[..., None] if images.ndim == 3 else images
    senses = rows.setdefault("senses", np.ones((len(labels), len(SENSES)), np.int64))
    problems = []
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[-1] not in (1, 3):
        problems.append(f"images are {images.dtype}{list(images.shape)}")
    if sounds.ndim != 2 or sounds.dtype != np.int16 or not sounds.size:
        problems.append(f"sounds are {sounds.dtype}{list(sounds.shape)}")
    if texts.ndim != 1 or texts.dtype.kind != "U":
        problems.append(f"texts are {texts.dtype}{list(texts.shape)}")
    if senses.shape != (len(labels), len(SENSES)) or not np.isin(senses, (0, 1)).all():
        problems.append(f"senses are {senses.dtype}{list(senses.shape)}, expected 0 and 1")
    elif not senses.any(1).all():
        problems.append("a row of senses has none")
    held = ("images", "sounds", "labels", "texts", *(["part"] if "part" in rows else []))
    counts = {name: len(rows[name]) for name in held}
    if len(set(counts.values())) > 1:
        problems.append(", ".join(f"{count} {name}" for name, count in counts.items()))
    if problems:
        raise DataError(f"{path} holds something else than {KNOWN}:\n{listed(problems)}")
    return rows
