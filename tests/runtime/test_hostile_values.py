"""What cannot be is refused in a sentence: wrong types, empty sounds, lengths that eat memory."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from edgetfm import pipeline
from edgetfm.errors import BundleError, DataError, InputError
from edgetfm.runtime.audio import FASTEST, LONGEST, AudioReader
from edgetfm.runtime.sounds import samples_of
from edgetfm.runtime.tasks._texts import batches
from edgetfm.signature import Signature, TensorSpec
from edgetfm.tables import read_rows
from tests.plain import Exported

WAVES = Signature((TensorSpec("input_values", "float32", ("batch", "samples")),), ())


@pytest.mark.parametrize(
    "settings",
    [
        {"samples": LONGEST + 1},
        {"frames": 1 << 40},
        {"least": 1 << 40},
        {"stack": 1 << 40},
        {"sampling_rate": FASTEST + 1},
    ],
)
def test_a_sound_is_not_made_longer_than_memory_holds(settings: dict[str, Any]) -> None:
    known = {"sampling_rate": 16_000} | settings
    with pytest.raises(BundleError, match="at most"):
        AudioReader.from_settings(known, WAVES)


def test_a_sound_without_samples_is_named(tmp_path: Path) -> None:
    file = tmp_path / "nothing.wav"
    soundfile.write(file, np.zeros(0, np.float32), 16_000)
    with pytest.raises(InputError, match=r"nothing\.wav has no samples"):
        samples_of(file, 16_000)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_of_json_is_refused_by_row(tmp_path: Path, number: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a", "label": 1}\n{"text": "b", "label": ' + number + "}\n")
    with pytest.raises(DataError, match=f"row 2: not JSON .*{number} is no number"):
        list(read_rows(file))


@pytest.mark.parametrize("size", ["x", 0, 1.5, None, True])
def test_a_batch_size_is_a_whole_number(size: Any) -> None:
    with pytest.raises(InputError, match=r"batch_size is .*, it must be a whole number"):
        list(batches(["the water"], size))


def test_a_source_language_alone_says_no_translation(
    tiny_writer_bundle: Callable[..., Exported],
) -> None:
    translate = pipeline(tiny_writer_bundle("t5", "translation").bundle)
    with pytest.raises(InputError, match=r"src_lang \(--from\) is 'en' and tgt_lang \(--to\)"):
        translate("the water", src_lang="en")


def test_a_whisper_says_that_its_texts_end_earlier(
    tiny_writer_bundle: Callable[..., Exported],
) -> None:
    hear = pipeline(tiny_writer_bundle("whisper").bundle)
    said = json.loads((hear.model.bundle.root / "edgetfm.json").read_text())
    context = said["generation"]["context"]
    wave = np.sin(np.arange(9000) / 7).astype(np.float32)
    with pytest.warns(UserWarning, match=f"max_new_tokens is {context + 1}.*after {context}"):
        hear(wave, max_new_tokens=context + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hear(wave, max_new_tokens=3)


def test_a_path_with_a_zero_byte_is_no_bundle() -> None:
    with pytest.raises(BundleError, match="a path holds no zero byte"):
        pipeline("a\0b")
