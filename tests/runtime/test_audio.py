"""Sounds become what transformers' feature extractors make of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import soundfile
from hypothesis import strategies as st
from transformers import (
    ASTFeatureExtractor,
    ClapFeatureExtractor,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)

from edgetfm import samples
from edgetfm.errors import BundleError, InputError, SourceError
from edgetfm.feature_extractors import read_feature_extractor
from edgetfm.runtime.audio import AudioReader
from edgetfm.runtime.mel import from_mel, to_mel
from edgetfm.runtime.sounds import samples_of
from edgetfm.signature import Signature, TensorSpec
from tests import recordings

RATE = 16_000


def signature(*shape: int | str, mask: bool = False) -> Signature:
    inputs = [TensorSpec("values", "float32", ("batch", *shape))]
    if mask:
        inputs.append(TensorSpec("attention_mask", "int64", ("batch", "sequence")))
    return Signature(tuple(inputs), ())


def reader_of(extractor: Any, folder: Path, *shape: int | str, mask: bool = False) -> AudioReader:
    """Ours, from the file that transformers' own saves."""
    extractor.save_pretrained(folder)
    prepared = read_feature_extractor(folder, least=400, convolutions=[])
    return AudioReader.from_settings(prepared.preprocessing["audio"], signature(*shape, mask=mask))


EXTRACTORS: dict[str, tuple[Callable[[], Any], tuple[int | str, ...], bool]] = {
    "wave with a mask": (
        lambda: Wav2Vec2FeatureExtractor(return_attention_mask=True),
        ("sequence",),
        True,
    ),
    "wave as it is": (lambda: Wav2Vec2FeatureExtractor(do_normalize=False), ("sequence",), False),
    "whisper": (WhisperFeatureExtractor, (80, 3000), False),
    "whisper of 5 s": (
        lambda: WhisperFeatureExtractor(feature_size=128, chunk_length=5),
        (128, 500),
        False,
    ),
    "spectrogram": (ASTFeatureExtractor, (1024, 128), False),
    "a short spectrogram": (
        lambda: ASTFeatureExtractor(num_mel_bins=40, max_length=60, do_normalize=False),
        (60, 40),
        False,
    ),
    "stacked frames": (SeamlessM4TFeatureExtractor, ("sequence", 160), True),
    "padded with ones": (
        lambda: SeamlessM4TFeatureExtractor(padding_value=1.0),
        ("sequence", 160),
        True,
    ),
    **{
        f"clap, {short}": (
            lambda short=short: ClapFeatureExtractor(
                truncation="rand_trunc", padding=short, max_length_s=4
            ),
            (1, 401, 64),
            False,
        )
        for short in ("repeatpad", "repeat", "pad")
    },
}


@pytest.mark.filterwarnings("ignore:At least one mel filter")  # transformers says it of AST's own
@pytest.mark.parametrize("name", EXTRACTORS)
def test_sounds_of_different_lengths_agree(name: str, tmp_path: Path) -> None:
    make, shape, mask = EXTRACTORS[name]
    theirs = make()
    ours = reader_of(theirs, tmp_path, *shape, mask=mask)
    given = [samples.speech(i, s, ours.sampling_rate) for i, s in enumerate((1.37, 0.52, 0.9))]
    options: dict[str, Any] = {} if "clap" in name or "whisper" in name else {"padding": True}
    wanted = theirs(given, sampling_rate=ours.sampling_rate, return_tensors="np", **options)
    got = ours(given)
    values = wanted[theirs.model_input_names[0]]
    assert got["values"].shape == values.shape
    if name != "wave as it is":
        np.testing.assert_allclose(got["values"], values, atol=1e-4, rtol=0)
    if mask:
        np.testing.assert_array_equal(got["attention_mask"], wanted["attention_mask"])
    assert got["values"].dtype == np.float32


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:At least one mel filter")
@pytest.mark.parametrize("name", EXTRACTORS)
def test_real_speech_agrees(name: str, tmp_path: Path) -> None:
    files = recordings.find()
    if not files:
        pytest.skip("python tests/recordings.py brings recordings, or says why it cannot")
    make, shape, mask = EXTRACTORS[name]
    theirs = make()
    ours = reader_of(theirs, tmp_path, *shape, mask=mask)
    for file in files:
        wave = samples_of(file, ours.sampling_rate)[: ours.longest]
        wanted = theirs(wave, sampling_rate=ours.sampling_rate, return_tensors="np")
        values = wanted[theirs.model_input_names[0]]
        got = ours(wave)["values"]
        np.testing.assert_allclose(got, values, atol=1e-4, rtol=0)


def test_without_a_mask_each_sound_is_normalized_alone(tmp_path: Path) -> None:
    theirs = Wav2Vec2FeatureExtractor()
    ours = reader_of(theirs, tmp_path, "sequence")
    short, long = samples.speech(1, 0.5), samples.speech(2, 0.8)
    got = ours([short, long])
    assert list(got) == ["values"]
    for row, sound in zip(got["values"], (short, long), strict=True):
        wanted = theirs(sound, sampling_rate=RATE, return_tensors="np")["input_values"][0]
        np.testing.assert_allclose(row[: len(sound)], wanted, atol=1e-4, rtol=0)
        assert not row[len(sound) :].any()


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_files_are_read_and_mixed(suffix: str, tmp_path: Path) -> None:
    left, right = samples.speech(3, 0.5), samples.speech(4, 0.5)
    file = tmp_path / f"sound{suffix}"
    soundfile.write(file, np.stack([left, right], axis=1), RATE)
    got = samples_of(file, RATE)
    mixed = (left + right) / 2
    assert got.shape == mixed.shape
    if suffix == ".ogg":  # lossy
        assert np.corrcoef(got, mixed)[0, 1] > 0.99
    else:
        np.testing.assert_allclose(got, mixed, atol=2**-15)


def test_every_form_of_an_array_is_the_same_sound() -> None:
    sound = samples.speech(5, 0.3)
    whole = np.round(sound * 32767).astype(np.int16)
    for given in (
        sound,
        sound.astype(np.float64),
        (sound, RATE),
        (sound.tolist(), float(RATE)),
        {"array": sound, "sampling_rate": RATE},
        {"raw": sound, "sampling_rate": RATE, "path": "any.wav"},
        np.stack([sound, sound]),
        np.stack([sound, sound], axis=1),
    ):
        np.testing.assert_array_equal(samples_of(given, RATE), sound)
    np.testing.assert_allclose(samples_of(whole, RATE), sound, atol=2**-14)
    np.testing.assert_allclose(
        samples_of((whole >> 8).astype(np.int16).astype(np.int8), RATE), sound, atol=2**-6
    )
    np.testing.assert_allclose(
        samples_of(((whole >> 8) + 128).astype(np.uint8), RATE), sound, atol=2**-6
    )


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 48_000])
def test_another_rate_is_the_same_sound_at_the_models(rate: int) -> None:
    seconds = np.arange(rate) / rate
    tone = np.sin(2 * np.pi * 440 * seconds).astype(np.float32)
    got = samples_of((tone, rate), RATE)
    assert got.size == RATE
    wanted = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    inner = slice(RATE // 10, -RATE // 10)  # a filter has no past at the ends
    np.testing.assert_allclose(got[inner], wanted[inner], atol=2e-3)


def test_what_is_no_sound_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("hello")
    (tmp_path / "empty.flac").touch()
    for name in ("text.wav", "empty.flac"):
        with pytest.raises(InputError, match=f"{name} cannot be read as a sound"):
            samples_of(tmp_path / name, RATE)
    sound = samples.speech(0, 0.1)
    for given, said in (
        (tmp_path / "absent.wav", "no sound at"),
        (np.zeros(0, np.float32), "no samples"),
        (np.zeros((0, 1), np.float32), "no samples"),  # as a file of no samples is read
        (np.array([0.0, np.nan]), "NaN or infinite"),
        (np.zeros((2, 2, 2)), "a sound's array"),
        (np.array(["a"]), "a sound's array"),
        ([0.0, 1.0], "a sound is a path"),
        (None, "a sound is a path"),
        ({"array": sound}, "a sound is a path"),
        ((sound, 0), "sampling rate"),
        ((sound, "fast"), "sampling rate"),
        ((sound, 1e400), "sampling rate"),
        ((sound, 10**18), "sampling rate"),  # the resampler would never end
        (([[1.0], [1.0, 2.0]], RATE), "no array"),
    ):
        with pytest.raises(InputError, match=said):
            samples_of(given, RATE)


@pytest.mark.filterwarnings("ignore:At least one mel filter")
def test_too_short_and_too_long_sounds_are_said(tmp_path: Path) -> None:
    wave = reader_of(Wav2Vec2FeatureExtractor(), tmp_path / "wave", "sequence")
    with pytest.raises(InputError, match=r"399 samples is too short.* 400 or more, 25 ms"):
        wave(np.zeros(399, np.float32))
    with pytest.raises(InputError, match="no sounds"):
        wave([])
    for extractor, shape in ((ASTFeatureExtractor(), (1024, 128)),
                             (SeamlessM4TFeatureExtractor(), ("sequence", 160))):  # fmt: skip
        made = reader_of(extractor, tmp_path / type(extractor).__name__, *shape)
        with pytest.raises(InputError, match="too short"):
            made(np.zeros(399, np.float32))
    with pytest.raises(InputError, match="one frame"):
        made(samples.speech(0, 0.03))
    short = reader_of(WhisperFeatureExtractor(chunk_length=1), tmp_path / "whisper", 80, 100)
    sound = samples.speech(0, 1.5)
    assert short.longest == RATE
    np.testing.assert_array_equal(short(sound)["values"], short(sound[:RATE])["values"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"feature_extractor_type": "EncodecFeatureExtractor"}, "EncodecFeatureExtractor; known"),
        ({"sampling_rate": 16000}, "of no name"),
        ({"feature_extractor_type": "WhisperFeatureExtractor", "dither": 0.1}, "random noise"),
        ({"feature_extractor_type": "Wav2Vec2FeatureExtractor", "padding_side": "left"}, "left"),
        ({"feature_extractor_type": "ClapFeatureExtractor", "truncation": "fusion"}, "at random"),
        ({"feature_extractor_type": "ClapFeatureExtractor"}, "not rand_trunc"),
        (
            {"feature_extractor_type": "ClapFeatureExtractor", "truncation": "rand_trunc"}
            | {"padding": "loop"},
            "'loop', known are",
        ),
        ({"feature_extractor_type": "ASTFeatureExtractor", "mean": None}, "no sound"),
    ],
)
def test_extractors_that_are_not_known_are_refused(
    settings: dict[str, Any], said: str, tmp_path: Path
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(SourceError, match=said):
        read_feature_extractor(tmp_path, least=1, convolutions=[])


@pytest.mark.parametrize(
    "change",
    [
        {"sampling_rate": 0},
        {"sampling_rate": None},
        {"least": "many"},
        {"short": "loop"},
        {"layout": "sideways"},
        {"normalize": "loudness"},
        {"std": 0.0},
        {"pitch": 440},
        {"mel": {"window": "hann"}},
        {"mel": {"window": "square"}},
        {"mel": {"hop": 0}},
        {"mel": {"low": 9000.0}},
        {"samples": -1},
    ],
)
def test_malformed_settings_are_bundle_errors(change: dict[str, Any], tmp_path: Path) -> None:
    WhisperFeatureExtractor().save_pretrained(tmp_path)
    entry = read_feature_extractor(tmp_path, least=1, convolutions=[]).preprocessing["audio"]
    mel = change.get("mel")
    if mel is not None:
        change = {
            "mel": mel if len(mel) == 1 and mel.get("window") == "hann" else entry["mel"] | mel
        }
    with pytest.raises(BundleError, match="audio preprocessing"):
        AudioReader.from_settings(entry | change, signature(80, 3000))
    for wrong in (signature(3000), Signature((), ())):
        with pytest.raises(BundleError):
            AudioReader.from_settings(entry, wrong)


@hypothesis.given(st.floats(0, 20_000), st.sampled_from(("slaney", "htk", "kaldi")))
def test_mel_scales_go_there_and_back(hertz: float, scale: str) -> None:
    back = from_mel(to_mel(np.array([hertz]), scale), scale)[0]
    assert back == pytest.approx(hertz, rel=1e-9, abs=1e-6)


def test_the_shipped_sounds_are_like_speech() -> None:
    made = samples.sounds()
    assert len({len(sound) for sound in made}) > 40
    loudness = [float(np.sqrt((sound**2).mean())) for sound in made]
    assert max(loudness) > 5 * min(loudness)
    for sound in made:
        assert np.abs(sound).max() <= 1
        spectrum = np.abs(np.fft.rfft(sound)) ** 2
        hertz = np.fft.rfftfreq(len(sound), 1 / samples.RATE)
        assert spectrum[(hertz > 80) & (hertz < 4000)].sum() > 0.5 * spectrum.sum()
    again = samples.sounds(3)
    np.testing.assert_array_equal(again[0], samples.sounds(3)[0])
