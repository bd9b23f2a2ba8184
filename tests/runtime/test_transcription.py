"""Speech of any length is written down: as transformers writes it, with times that are in order."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers

import edgetfm
from edgetfm.cli import main
from edgetfm.errors import InputError
from edgetfm.runtime import Pipeline
from edgetfm.runtime.transcription import Hearing, Transcriber
from edgetfm.scoring.metrics import word_error_rate
from edgetfm.sources.ctranslate2 import convert
from tests.plain import export_plain
from tests.recordings import find

pytestmark = pytest.mark.slow

RATE = 16_000


@pytest.fixture(scope="module")
def tiny(tiny_writer_bundle: Callable[..., Any]) -> Pipeline:
    """A random Whisper with windows of a second: what it says means nothing, with any times."""
    return edgetfm.pipeline(tiny_writer_bundle("whisper").bundle, threads=1)


@pytest.mark.parametrize("seconds", [0.3, 1.0, 3.7])
def test_times_are_in_order_and_within_the_sound(tiny: Pipeline, seconds: float) -> None:
    sound = np.random.default_rng(2).normal(size=int(seconds * RATE)).astype(np.float32) * 0.1
    answer = tiny(sound, return_timestamps=True, temperature=[0.0, 0.8])
    times = [chunk["timestamp"] for chunk in answer["chunks"]]
    assert all(start < end for start, end in times)
    assert all(one[0] <= other[0] for one, other in itertools.pairwise(times))
    assert all(end <= seconds + 1.0 for _, end in times)
    assert answer["text"] == "".join(c["text"] for c in answer["chunks"]).strip()


def test_the_same_seed_hears_the_same(tiny: Pipeline) -> None:
    sound = np.random.default_rng(3).normal(size=2 * RATE).astype(np.float32)
    heard = [tiny(sound, return_timestamps=True, temperature=1.0, seed=s) for s in (1, 1, 2)]
    assert heard[0] == heard[1] != heard[2]


def test_short_sounds_together_are_heard_as_alone(tiny: Pipeline) -> None:
    random = np.random.default_rng(4)
    sounds = [random.normal(size=n).astype(np.float32) for n in (4000, 16000, 9000)]
    assert tiny(sounds, batch_size=3) == [tiny(sound) for sound in sounds]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"language": "de"}, "writes down English: leave out language='de'"),
        ({"task": "translate"}, "leave out task='translate'"),
        ({"temperature": -1}, "temperature is -1"),
        ({"chunk_length_s": 3}, "has no option chunk_length_s"),
    ],
)
def test_options_of_no_use_are_said(tiny: Pipeline, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        tiny(np.zeros(RATE, np.float32), **options)


@pytest.fixture(scope="module")
def polyglot(tiny: Pipeline) -> Transcriber:
    """The same random Whisper, told that some of its words are languages and tasks."""
    one = tiny.asked.transcriber
    said = {
        **tiny.model.bundle.manifest.generation,
        "language_tokens": {"<|en|>": 3, "<|de|>": 4, "<|fr|>": 5},
        "task_tokens": {"transcribe": 6, "translate": 7},
    }
    return Transcriber(one.model, one.reader, one.text_of, said, {})


def test_a_language_that_is_not_named_is_heard(polyglot: Transcriber) -> None:
    random = np.random.default_rng(5)
    waves = [random.normal(size=9000).astype(np.float32) for _ in range(3)]
    hears = functools.partial(polyglot.plain, options=polyglot.defaults)
    named = {name: hears(waves, Hearing(name)) for name in ("en", "de", "fr")}
    assert len(set(map(tuple, named.values()))) == 3
    heard = hears(waves, Hearing())
    for i, wave in enumerate(waves):
        encoded = polyglot.model.encode(polyglot.reader([wave]))
        scores = polyglot.model.first(encoded)[0, [3, 4, 5]]
        assert heard[i] == named[("en", "de", "fr")[int(scores.argmax())]][i]
    assert hears(waves, Hearing("de", "translate")) != named["de"]


def test_an_unknown_language_or_task_is_said_with_those_there_are(polyglot: Transcriber) -> None:
    wave = [np.zeros(9000, np.float32)]
    with pytest.raises(InputError, match="language is 'xx', it may be en, de, fr"):
        polyglot.plain(wave, Hearing("xx"), polyglot.defaults)
    with pytest.raises(InputError, match="task is 'sing', it may be transcribe, translate"):
        polyglot.plain(wave, Hearing("en", "sing"), polyglot.defaults)


# --- a real one -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(whisper_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """whisper-tiny.en as transformers keeps it."""
    made = tmp_path_factory.mktemp("whisper") / "tiny.en"
    convert(whisper_folder, made)
    return made


@pytest.fixture(scope="module")
def real(folder: Path) -> Pipeline:
    return edgetfm.pipeline(export_plain(folder, folder.parent / "bundle").bundle)


@pytest.fixture(scope="module")
def clips() -> dict[Path, str]:
    """Five recordings and what is said in them."""
    files = find()
    if not files:
        pytest.skip("no recordings: python tests/recordings.py brings them")
    text = (files[0].parent / "transcription").read_text(encoding="utf-8")
    said = {name: words for words, name in re.findall(r"<s> (.*) </s> \((\S+)\)", text)}
    return {file: said[file.stem] for file in files}


def test_it_writes_what_transformers_writes(
    real: Pipeline, folder: Path, clips: dict[Path, str]
) -> None:
    model = transformers.WhisperForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32
    ).eval()
    processor = transformers.WhisperProcessor.from_pretrained(folder)
    for clip in clips:
        samples, rate = soundfile.read(clip, dtype="float32")
        features = processor(samples, sampling_rate=rate, return_tensors="pt").input_features
        config = model.generation_config
        tokens = transformers.GenerationMixin.generate(
            model,
            input_features=features,
            decoder_input_ids=torch.tensor([[50257, 50362]]),
            generation_config=config,
        )
        (wanted,) = processor.batch_decode(tokens, skip_special_tokens=True)
        assert real(str(clip))["text"] == wanted.strip()


def test_its_logits_are_transformers(real: Pipeline, folder: Path, clips: dict[Path, str]) -> None:
    model = transformers.WhisperForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    feeds = real.preprocessor.sounds([str(clip) for clip in list(clips)[:2]])
    tokens = np.array([[50257, 50362, 843, 1770], [50257, 50362, 679, 373]])
    with torch.inference_mode():
        wanted = model(
            input_features=torch.from_numpy(feeds["input_features"]),
            decoder_input_ids=torch.from_numpy(tokens),
        ).logits.numpy()
    mask = np.ones_like(tokens)
    got = real.model.run(feeds, decoder_input_ids=tokens, decoder_attention_mask=mask)["logits"]
    assert np.abs(got - wanted).max() / np.abs(wanted).max() < 1e-4


def test_long_sounds_are_heard_to_the_end_with_times(
    real: Pipeline, clips: dict[Path, str]
) -> None:
    parts = [soundfile.read(clip, dtype="float32")[0] for clip in clips] * 2
    answer = real(np.concatenate(parts), return_timestamps=True)
    said = " ".join([*clips.values()] * 2)
    assert word_error_rate([said], [answer["text"]]) < 0.08
    times = [chunk["timestamp"] for chunk in answer["chunks"]]
    assert all(a[1] <= b[0] + 0.02 for a, b in itertools.pairwise(times))
    length = sum(map(len, parts)) / RATE
    assert length - 3.0 < times[-1][1] <= length + 0.5


def test_run_prints_times(
    real: Pipeline, clips: dict[Path, str], capfd: pytest.CaptureFixture[str]
) -> None:
    bundle, clip = str(real.model.bundle.root), str(list(clips)[-1])
    assert main(["run", bundle, clip, "--timestamps"]) == 0
    _, line = capfd.readouterr().out.splitlines()
    assert re.fullmatch(r"  \[00:00\.00 -> 00:0\d\.\d\d\] He might even have .*\.", line)
