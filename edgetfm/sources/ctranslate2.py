"""Whisper models of CTranslate2, as faster-whisper keeps them, in the Hugging Face layout."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgetfm.assets import read_json
from edgetfm.errors import EdgetfmError, OutputError, SourceError, in_short
from edgetfm.files import sha256
from edgetfm.sources._ctranslate2 import CTranslate2Model, open_model
from edgetfm.sources._source import Source

MODEL = "model.bin"
_SPEC = "WhisperSpec"
_HEAD_SIZE = 64
"""Of every Whisper: older files of CTranslate2 do not say how many heads they have."""
_TASKS = ("translate", "transcribe")
_WORDS = "model.decoder.embed_tokens.weight"
_NEEDED = (
    _WORDS,
    "model.encoder.conv1.weight",
    "model.encoder.embed_positions.weight",
    "model.decoder.embed_positions.weight",
    "model.encoder.layers.0.fc1.bias",
    "model.decoder.layers.0.fc1.bias",
)
"""The weights whose shapes are read."""
_MANY_LANGUAGES = 51_865
"""Tokens of a vocabulary that has more languages than English, at the least."""
_HERTZ, _HOP, _FFT = 16_000, 160, 400


def is_ctranslate2(place: Path) -> bool:
    """Whether this is a folder with a model of CTranslate2 and no other weights."""
    return (place / MODEL).is_file() and not any(place.glob("*.safetensors"))


def open_ctranslate2(place: Path, task: str | None = None, *, route: str | None = None) -> Source:
    """The Whisper in a folder of CTranslate2, written in the Hugging Face layout beside it.

    The copy lies in a temporary folder for as long as the source is in use.
    """
    from edgetfm.sources.huggingface import open_huggingface

    folder = Path(tempfile.mkdtemp(prefix="edgetfm-"))
    try:
        convert(place, folder)
        with _as_given(folder, place):
            source = open_huggingface(folder, task, route=route)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    kept = _Kept(folder, place)
    provenance = {
        **source.provenance,
        "kind": "ctranslate2",
        "name": place.name,
        "sha256": {MODEL: sha256(place / MODEL)},
    }
    return replace(
        source,
        kind="ctranslate2",
        name=place.name,
        provenance=provenance,
        build_module=lambda: kept.using(source.build_module),
        build_reference=lambda: kept.using(source.build_reference),
    )


class _Kept:
    """A folder that is removed when nothing refers to this any more."""

    def __init__(self, folder: Path, place: Path) -> None:
        self.folder, self.place = folder, place
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)

    def using(self, build: Any) -> Any:
        """What `build` gives, which reads the folder."""
        with _as_given(self.folder, self.place):
            return build()


@contextmanager
def _as_given(folder: Path, place: Path) -> Iterator[None]:
    """What is wrong with the copy is said of the folder that was given."""
    try:
        yield
    except EdgetfmError as error:
        if str(folder) not in str(error):
            raise
        error.args = (str(error).replace(str(folder), str(place)),)
        raise


@contextmanager
def _damage_named(file: Path) -> Iterator[None]:
    """What Python says of a file that holds something else is said of the file."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        said = f"{type(error).__name__}: {in_short(error)}"
        raise SourceError(f"{file} is damaged, or not of a Whisper ({said})") from error


def convert(place: Path, folder: Path) -> None:
    """Write the Whisper in `place` to `folder` as transformers keeps it, its floats as they are.

    Raises SourceError for other models and for weights that are quantized: only floats are read.
    """
    from safetensors.numpy import save_file

    with _damage_named(place / MODEL):
        model = open_model(place / MODEL)
    if model.spec != _SPEC:
        raise SourceError(
            f"{place / MODEL} is a {model.spec} of CTranslate2: only Whisper's are known here"
        )
    rounded = [name for name in model.weights if name.endswith("weight_scale")]
    if rounded:
        raise SourceError(
            f"{place / MODEL} is already quantized ({len(rounded)} weights in int8): take the "
            "float16 model of the same name"
        )
    with _damage_named(place / MODEL):
        weights = dict(_weights(model))
    missing = [name for name in _NEEDED if name not in weights]
    if missing:
        raise SourceError(f"{place / MODEL} is no whole Whisper: it lacks {', '.join(missing)}")
    with _damage_named(place / "tokenizer.json"):
        tokens = _tokens(place)
    with _damage_named(place / MODEL):
        config, preprocessor = _config(model, weights, tokens), _preprocessor(weights)
    with _damage_named(place / "config.json"):
        said = read_json(place / "config.json")
        generation = _generation(said, tokens, len(weights[_WORDS]))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        metadata = {"format": "pt"}
        save_file(weights, folder / "model.safetensors", metadata=metadata)
        shutil.copyfile(place / "tokenizer.json", folder / "tokenizer.json")
        for name, content in {
            "config.json": config,
            "generation_config.json": generation,
            "preprocessor_config.json": preprocessor,
            "tokenizer_config.json": _tokenizer(),
        }.items():
            (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error}") from error


# --- weights --------------------------------------------------------------------------------------

_NAMES = (
    (r"^(encoder|decoder)/", r"model.\1."),
    (r"layer_(\d+)/", r"layers.\1."),
    (r"embeddings/weight", "embed_tokens.weight"),
    (r"position_encodings/encodings", "embed_positions.weight"),
    (r"self_attention/layer_norm/", "self_attn_layer_norm."),
    (r"attention/layer_norm/", "encoder_attn_layer_norm."),
    (r"ffn/layer_norm/", "final_layer_norm."),
    (r"ffn/linear_0/", "fc1."),
    (r"ffn/linear_1/", "fc2."),
    (r"self_attention/linear_1/", "self_attn.out_proj."),
    (r"attention/linear_2/", "encoder_attn.out_proj."),
    (r"attention/linear_0/", "encoder_attn.q_proj."),
    (r"layer_norm/", "layer_norm."),
    (r"/", "."),
    (r"gamma$", "weight"),
    (r"beta$", "bias"),
)
_PACKED = {
    "self_attention/linear_0/": ("self_attn.", ("q_proj", "k_proj", "v_proj")),
    "attention/linear_1/": ("encoder_attn.", ("k_proj", "v_proj")),
}
"""What CTranslate2 multiplies at once, and its parts in order."""


def _weights(model: CTranslate2Model) -> Iterator[tuple[str, NDArray[Any]]]:
    """The weights by Hugging Face's names."""
    for name, values in model.weights.items():
        if values.ndim == 0 or name.endswith(("alignment_heads", "num_heads")):
            continue
        packed = next((p for p in _PACKED if re.search(rf"/{p}(weight|bias)$", name)), None)
        if packed is None:
            yield _renamed(name), np.ascontiguousarray(values)
            continue
        prefix, parts = _PACKED[packed]
        before, kind = name.split(packed)
        for part, piece in zip(parts, np.split(values, len(parts)), strict=True):
            if (part, kind) != ("k_proj", "bias"):  # Whisper's keys have none: it is all zeros
                yield f"{_renamed(before)}{prefix}{part}.{kind}", np.ascontiguousarray(piece)


def _renamed(name: str) -> str:
    for pattern, to in _NAMES:
        name = re.sub(pattern, to, name)
    return name


# --- configs --------------------------------------------------------------------------------------


def _tokens(place: Path) -> dict[str, int]:
    """The special tokens by what stands between <| and |>."""
    added = read_json(place / "tokenizer.json", required=True).get("added_tokens", [])
    found = {t["content"]: t["id"] for t in added if t.get("special")}
    tokens = {
        name[2:-2]: number for name, number in found.items() if re.fullmatch(r"<\|.+\|>", name)
    }
    missing = {"endoftext", "startoftranscript", "notimestamps"} - tokens.keys()
    if missing:
        raise SourceError(f"{place / 'tokenizer.json'} is not Whisper's: no {', '.join(missing)}")
    return tokens


def _config(
    model: CTranslate2Model, weights: Mapping[str, NDArray[Any]], tokens: Mapping[str, int]
) -> dict[str, Any]:
    vocabulary, width = weights[_WORDS].shape
    sizes: dict[str, Any] = {}
    for side in ("encoder", "decoder"):
        layers = {n.split(".")[3] for n in weights if n.startswith(f"model.{side}.layers.")}
        sizes |= {
            f"{side}_layers": len(layers),
            f"{side}_attention_heads": model.number(f"{side}/num_heads", width // _HEAD_SIZE),
            f"{side}_ffn_dim": len(weights[f"model.{side}.layers.0.fc1.bias"]),
        }
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "activation_function": "gelu",
        "vocab_size": vocabulary,
        "d_model": width,
        "num_mel_bins": weights["model.encoder.conv1.weight"].shape[1],
        "max_source_positions": len(weights["model.encoder.embed_positions.weight"]),
        "max_target_positions": len(weights["model.decoder.embed_positions.weight"]),
        **sizes,
        "bos_token_id": tokens["endoftext"],
        "eos_token_id": tokens["endoftext"],
        "pad_token_id": tokens["endoftext"],
        "decoder_start_token_id": tokens["startoftranscript"],
        "scale_embedding": False,
        "dtype": str(weights["model.encoder.conv1.weight"].dtype),
    }


def _generation(
    said: Mapping[str, Any], tokens: Mapping[str, int], vocabulary: int
) -> dict[str, Any]:
    end, many = tokens["endoftext"], vocabulary >= _MANY_LANGUAGES
    made: dict[str, Any] = {
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": tokens["startoftranscript"],
        "no_timestamps_token_id": tokens["notimestamps"],
        "prev_sot_token_id": tokens.get("startofprev"),
        "max_initial_timestamp_index": 50,
        "max_length": 448,
        "suppress_tokens": said.get("suppress_ids", []),
        "begin_suppress_tokens": said.get("suppress_ids_begin", []),
        "alignment_heads": said.get("alignment_heads", []),
        "is_multilingual": many,
    }
    if many:
        languages = [n for n in tokens if re.fullmatch(r"[a-z]{2,3}", n)]
        made["lang_to_id"] = {f"<|{name}|>": tokens[name] for name in languages}
        made["task_to_id"] = {name: tokens[name] for name in _TASKS if name in tokens}
    return made


def _preprocessor(weights: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    frames = 2 * len(weights["model.encoder.embed_positions.weight"])
    return {
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": weights["model.encoder.conv1.weight"].shape[1],
        "sampling_rate": _HERTZ,
        "hop_length": _HOP,
        "n_fft": _FFT,
        "chunk_length": frames * _HOP // _HERTZ,
        "n_samples": frames * _HOP,
        "nb_max_frames": frames,
        "padding_value": 0.0,
        "padding_side": "right",
        "return_attention_mask": False,
    }


def _tokenizer() -> dict[str, Any]:
    end = "<|endoftext|>"
    return {
        "tokenizer_class": "WhisperTokenizer",
        "bos_token": end,
        "eos_token": end,
        "pad_token": end,
        "unk_token": end,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 448,
    }
