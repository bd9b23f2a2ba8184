"""Speech: what is said in each recording, written token by token.

Radford et al. 2022, https://arxiv.org/abs/2212.04356.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetfm.errors import InputError
from edgetfm.feature_extractors import FILE, read_feature_extractor
from edgetfm.runtime.audio import AudioReader
from edgetfm.signature import Signature, TensorSpec
from edgetfm.training.config import TrainConfig
from edgetfm.training.data.parts import PARTS, Part, divided, fingerprint
from edgetfm.training.data.sounds import Recording, read_recordings
from edgetfm.training.objectives._objective import IGNORED, Batch, DataFacts, Rows
from edgetfm.training.objectives._text import padded, tokenizer_for, writing_files
from edgetfm.training.objectives.labels import text_feeds
from edgetfm.training.objectives.pairs import decoder_start

MEASURE = "perplexity"
RATE, HOP = 16_000, 160
"""Hertz, and the samples of a frame of the spectrum, two of which are one of the encoder's."""
FRAMES, MELS = 1500, 80
EXAMPLES = 3


class Speech:
    """Recordings of at most so many seconds as the model has frames for, and their texts."""

    measure = MEASURE
    labels: tuple[str, ...] = ()

    def __init__(self, config: TrainConfig) -> None:
        name = Path(config.dataset).stem
        frames, mels = config.model.get("frames", FRAMES), config.model.get("mels", MELS)
        seconds, rest = divmod(2 * HOP * int(frames), RATE)
        if rest or not seconds:
            raise InputError(f"model.frames is {frames}, expected whole seconds of {RATE // 320}")
        self.extractor = extractor(int(seconds), int(mels))
        self.reader = reader_of(self.extractor)
        recordings = read_recordings(config.dataset, config.columns, RATE, seconds)
        contents = [r.wave.tobytes() for r in recordings]
        items = list(zip(contents, recordings, strict=True))
        parts = divided(items, [r.part for r in recordings if r.part], config.shares, name)
        texts = {part: [r.text for r in parts[part]] for part in PARTS}
        self.tokenizer = tokenizer_for(config, texts["train"], "text2text")
        self.pad, self.end = self.tokenizer.number("pad"), self.tokenizer.number("eos")
        self.start = decoder_start(self.tokenizer, config)
        self.ids = {
            part: [
                [*ids[: config.length - 1], self.end]
                for ids in self.tokenizer.ids(texts[part], special=False)
            ]
            for part in PARTS
        }
        self.features = {part: self._features(parts[part]) for part in PARTS}
        whole = [wave + r.text.encode() for wave, r in zip(contents, recordings, strict=True)]
        self.data = DataFacts.of(name, fingerprint(whole), parts)
        self.tried = parts["test"][:EXAMPLES]

    def _features(self, recordings: list[Recording]) -> NDArray[np.float32]:
        return np.stack([self.reader.prepare(r.wave) for r in recordings])

    def follows(self) -> Mapping[str, Any]:
        """The number of tokens."""
        return {"vocabulary": self.tokenizer.vocabulary}

    def batch(self, part: Part, rows: Rows, random: np.random.Generator | None) -> Batch:
        """Spectra, and the texts behind the token that begins each."""
        targets = [self.ids[part][i] for i in rows]
        decoder = text_feeds([[self.start, *row[:-1]] for row in targets], self.pad)
        feeds = {
            "input_features": self.features[part][rows],
            "decoder_input_ids": decoder["input_ids"],
            "decoder_attention_mask": decoder["attention_mask"],
        }
        return Batch(feeds, padded(targets, IGNORED))

    def lengths(self, part: Part) -> None:
        """All spectra are of one length."""

    def files(self, inputs: tuple[str, ...]) -> Mapping[str, bytes]:
        """The tokenizer, how sounds are made ready, how a text begins and ends, a few to try."""
        return {
            **self.tokenizer.files(),
            **writing_files(self.start, self.end, self.pad),
            FILE: (json.dumps(self.extractor, indent=2) + "\n").encode(),
            **{f"examples/{i}.wav": wav(r.wave) for i, r in enumerate(self.tried)},
        }


def extractor(seconds: int, mels: int) -> dict[str, Any]:
    """In the keys that transformers' feature extractors know."""
    return {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "chunk_length": seconds,
        "feature_size": mels,
        "hop_length": HOP,
        "n_fft": 400,
        "n_samples": seconds * RATE,
        "nb_max_frames": seconds * RATE // HOP,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": False,
        "sampling_rate": RATE,
    }


def reader_of(extractor: Mapping[str, Any]) -> AudioReader:
    """How a bundle will make a sound ready: a model is trained on what it will hear."""
    with TemporaryDirectory() as folder:
        (Path(folder) / FILE).write_text(json.dumps(extractor), encoding="utf-8")
        made = read_feature_extractor(Path(folder), least=0, convolutions=[]).preprocessing
    features = TensorSpec("input_features", "float32", ("batch", extractor["feature_size"], "time"))
    return AudioReader.from_settings(made["audio"], Signature((features,), ()))


def wav(wave: NDArray[np.float32]) -> bytes:
    """Samples as a file that other programs play: 16 bits."""
    import wave as wave_file

    buffer = io.BytesIO()
    with wave_file.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(wave, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()
