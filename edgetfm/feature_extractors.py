"""A folder's feature extractor: how sounds become inputs, from preprocessor_config.json. No torch.

Only the keys that these classes of transformers read are known here, by their own defaults; a
check at export asks the class itself (edgetfm.sources._sound).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edgetfm.assets import Prepared, read_json
from edgetfm.errors import SourceError

Entry = dict[str, Any]

FILE = "preprocessor_config.json"
_KALDI = {
    "length": 400,
    "hop": 160,
    "fft": 512,
    "low": 20.0,
    "mel_scale": "kaldi",
    "log": "ln",
    "floor": 1.192092955078125e-07,
    "periodic": False,
    "centered": False,
    "remove_mean": True,
    "preemphasis": 0.97,
    "in_mel": True,
}
"""Kaldi's filter bank at 16 kHz: https://kaldi-asr.org/doc/feature-fbank_8h.html"""


def read_settings(folder: Path) -> dict[str, Any]:
    """The feature extractor's own settings, {} without any.

    Newer processors keep them in a file with their other parts, and so does a model of several
    senses, whose pictures have FILE.
    """
    data = read_json(folder / FILE)
    if data and "image_processor_type" not in data:
        return data
    nested = read_json(folder / "processor_config.json").get("feature_extractor")
    return nested if isinstance(nested, dict) else data


def read_feature_extractor(folder: Path, *, least: int, convolutions: list[list[int]]) -> Prepared:
    """How a sound becomes the model's input.

    least: the fewest samples it takes. convolutions: kernel and stride of each that shortens the
    sequence. Raises SourceError for extractors and settings that are not known.
    """
    data = read_settings(folder)
    if not data:
        return Prepared(notes=(f"{folder} has no {FILE}: the bundle takes arrays only",))
    kind = str(data.get("feature_extractor_type", ""))
    if kind not in EXTRACTORS:
        raise SourceError(
            f"{folder} has the feature extractor {kind or 'of no name'}; known are "
            f"{', '.join(EXTRACTORS)}"
        )
    if problems := list(_random_or_left(data)):
        raise SourceError(f"{folder / FILE}: {'; '.join(problems)}")
    try:
        entry = EXTRACTORS[kind](data)
    except (TypeError, ValueError) as error:
        raise SourceError(f"{folder / FILE} holds what no sound can be made by: {error}") from error
    if entry.get("mel") is None:
        entry["least"] = least
    if convolutions:
        entry["convolutions"] = convolutions
    path = folder / FILE
    return Prepared({FILE: path.read_bytes()} if path.is_file() else {}, {"audio": entry})


def returns_mask(folder: Path) -> bool:
    """Whether the extractor gives an attention mask where the model takes one."""
    data = read_settings(folder)
    usual = data.get("feature_extractor_type") == "SeamlessM4TFeatureExtractor"
    return bool(data.get("return_attention_mask", usual))


def _random_or_left(data: Mapping[str, Any]) -> list[str]:
    problems = []
    if data.get("padding_side", "right") != "right":
        problems.append("padding on the left is not honoured")
    if data.get("dither"):
        problems.append("dither adds random noise: no answer is the same twice")
    if data.get("truncation") == "fusion":
        problems.append(
            "truncation by fusion picks parts of a sound at random: no answer is the same twice"
        )
    return problems


def _rate(data: Mapping[str, Any], usual: int = 16_000) -> int:
    return int(data.get("sampling_rate", usual))


def _wave(data: Mapping[str, Any]) -> Entry:
    return {
        "sampling_rate": _rate(data),
        "normalize": "sound" if data.get("do_normalize", True) else None,
        "padding": float(data.get("padding_value", 0.0)),
    }


def _whisper(data: Mapping[str, Any]) -> Entry:
    rate = _rate(data)
    size = int(data.get("n_fft", 400))
    mel = {
        "window": "hann",
        "length": size,
        "hop": int(data.get("hop_length", 160)),
        "fft": size,
        "bins": int(data.get("feature_size", 80)),
        "low": 0.0,
        "high": 8000.0,
        "mel_scale": "slaney",
        "equal_area": True,
        "log": "log10",
        "floor": 1e-10,
    }
    return {
        "sampling_rate": rate,
        "samples": int(data.get("chunk_length", 30)) * rate,
        "padding": float(data.get("padding_value", 0.0)),
        "mel": mel,
        "drop_last": True,
        "dynamic": 8.0,
        "normalize": "fixed",
        "mean": -4.0,
        "std": 4.0,
        "layout": "bands",
    }


def _spectrogram(data: Mapping[str, Any]) -> Entry:
    rate = _rate(data)
    bins = int(data.get("num_mel_bins", 128))
    return {
        "sampling_rate": rate,
        "mel": _KALDI | {"window": "hann", "bins": bins, "high": float(rate // 2)},
        "frames": int(data.get("max_length", 1024)),
        "normalize": "fixed" if data.get("do_normalize", True) else None,
        "mean": float(data.get("mean", -4.2677393)),
        "std": 2 * float(data.get("std", 4.5689974)),
    }


def _seamless(data: Mapping[str, Any]) -> Entry:
    rate = _rate(data)
    own = {
        "window": "povey",
        "bins": int(data.get("num_mel_bins", 80)),
        "high": float(rate // 2),
        "scale": 32768.0,  # Kaldi counts in 16-bit integers
    }
    return {
        "sampling_rate": rate,
        "mel": _KALDI | own,
        "normalize": "band",
        "stack": int(data.get("stride", 2)),
        "padding": float(data.get("padding_value", 0.0)),
    }


_REPEATS = {"repeatpad": "repeat-whole", "repeat": "repeat", "pad": "silence"}


def _clap(data: Mapping[str, Any]) -> Entry:
    rate = _rate(data, 48_000)
    if data.get("truncation", "fusion") != "rand_trunc":
        raise ValueError("truncation is not rand_trunc")
    if (short := data.get("padding", "repeatpad")) not in _REPEATS:
        raise ValueError(f"padding is {short!r}, known are {', '.join(_REPEATS)}")
    size = int(data.get("fft_window_size", 1024))
    mel = {
        "window": "hann",
        "length": size,
        "hop": int(data.get("hop_length", 480)),
        "fft": size,
        "bins": int(data.get("feature_size", 64)),
        "low": float(data.get("frequency_min", 0)),
        "high": float(data.get("frequency_max", 14_000)),
        "mel_scale": "slaney",
        "equal_area": True,
        "log": "db",
        "floor": 1e-10,
    }
    return {
        "sampling_rate": rate,
        "samples": int(data.get("max_length_s", 10)) * rate,
        "short": _REPEATS[short],
        "mel": mel,
        "layout": "channel",
    }


EXTRACTORS: dict[str, Callable[[Mapping[str, Any]], Entry]] = {
    "Wav2Vec2FeatureExtractor": _wave,
    "WhisperFeatureExtractor": _whisper,
    "ASTFeatureExtractor": _spectrogram,
    "SeamlessM4TFeatureExtractor": _seamless,
    "ClapFeatureExtractor": _clap,
}
"""The class in transformers -> what it does, in the manifest's words."""
