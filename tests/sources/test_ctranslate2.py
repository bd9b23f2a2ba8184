"""CTranslate2's Whisper folders become Hugging Face's with the same weights and tokens."""

from __future__ import annotations

import gc
import json
import re
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from edgetfm.errors import InputError, SourceError
from edgetfm.sources import open_source
from edgetfm.sources.ctranslate2 import convert, is_ctranslate2

SPECIAL = ("endoftext", "startoftranscript", "en", "startofprev", "notimestamps")


@pytest.fixture(scope="module")
def tiny_whisper() -> Any:
    torch.manual_seed(4)
    config = transformers.WhisperConfig(
        vocab_size=40, d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=64, num_mel_bins=8,
        max_source_positions=30, max_target_positions=20, pad_token_id=0, bos_token_id=0,
        eos_token_id=0, decoder_start_token_id=1,
    )  # fmt: skip
    model = transformers.WhisperForConditionalGeneration(config).eval()
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight)
    return model


def write_folder(model: Any, folder: Path, kind: str = "float16", spec: str = "WhisperSpec") -> Any:
    """The model as CTranslate2's converter writes it: queries, keys and values in one weight."""
    numbers = {"float32": 0, "int8": 1, "int16": 2, "float16": 4}
    weights = {n: w.detach().numpy() for n, w in model.model.named_parameters()}
    found: dict[str, Any] = {"decoder/num_heads": np.int16(4), "encoder/num_heads": np.int16(4)}
    for name, values in weights.items():
        if re.search(r"[qkv]_proj", name):
            continue
        own = name.replace("self_attn.out_proj", "self_attention.linear_1")
        own = own.replace("encoder_attn.out_proj", "attention.linear_2")
        own = own.replace("self_attn_layer_norm", "self_attention.layer_norm")
        own = own.replace("encoder_attn_layer_norm", "attention.layer_norm")
        own = own.replace("final_layer_norm", "ffn.layer_norm").replace("layers.", "layer_")
        own = own.replace("fc1", "ffn.linear_0").replace("fc2", "ffn.linear_1")
        own = own.replace("embed_tokens", "embeddings")
        own = own.replace("embed_positions.weight", "position_encodings.encodings")
        if "layer_norm" in own:
            own = own.replace("weight", "gamma").replace("bias", "beta")
        found[own.replace(".", "/")] = values.astype(kind)
    for name in weights:
        if name.endswith("q_proj.weight"):
            place = name.removesuffix("q_proj.weight")
            own = place.replace("layers.", "layer_").replace(".", "/")
            for word in ("weight", "bias"):
                q, v = (weights[f"{place}{part}_proj.{word}"] for part in "qv")
                k = weights.get(f"{place}k_proj.{word}", np.zeros_like(q))
                if "self_attn" in own:
                    whole = {"self_attn/": ("self_attention/linear_0", [q, k, v])}
                else:
                    whole = {"encoder_attn/": ("attention/linear_1", [k, v])}
                    alone = own.replace("encoder_attn/", "attention/linear_0")
                    found[f"{alone}/{word}"] = q.astype(kind)
                for part, (to, values) in whole.items():
                    packed = np.concatenate(values).astype(kind)
                    found[f"{own.replace(part, to)}/{word}"] = packed
    with (folder / "model.bin").open("wb") as file:
        file.write(struct.pack("<I", 6) + text(spec) + struct.pack("<II", 3, len(found)))
        for name, values in found.items():
            file.write(text(name) + struct.pack("<B", values.ndim))
            file.write(struct.pack(f"<{values.ndim}I", *values.shape))
            file.write(struct.pack("<BI", numbers[str(values.dtype)], values.nbytes))
            file.write(values.tobytes())
        file.write(struct.pack("<I", 1))
        file.write(text("decoder/projection/weight") + text("decoder/embeddings/weight"))
    added = [{"id": i, "content": f"<|{n}|>", "special": True} for i, n in enumerate(SPECIAL)]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    said = {"suppress_ids": [7], "suppress_ids_begin": [0], "alignment_heads": [[1, 0]]}
    (folder / "config.json").write_text(json.dumps(said))
    return folder


def text(value: str) -> bytes:
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


def test_its_logits_are_the_models(tiny_whisper: Any, tmp_path: Path) -> None:
    place = write_folder(tiny_whisper, tmp_path, "float32")
    convert(place, tmp_path / "made")
    made = transformers.WhisperForConditionalGeneration.from_pretrained(tmp_path / "made")
    features = torch.randn(2, 8, 60)
    tokens = torch.randint(0, 40, (2, 5))
    with torch.inference_mode():
        one, other = (
            m.eval()(input_features=features, decoder_input_ids=tokens).logits
            for m in (made, tiny_whisper)
        )
    np.testing.assert_array_equal(one, other)


def test_its_tokens_are_those_of_the_folder(tiny_whisper: Any, tmp_path: Path) -> None:
    convert(write_folder(tiny_whisper, tmp_path), tmp_path / "made")
    config = transformers.GenerationConfig.from_pretrained(tmp_path / "made")
    assert config.decoder_start_token_id == 1
    assert config.eos_token_id == 0
    assert config.no_timestamps_token_id == 4
    assert (config.suppress_tokens, config.begin_suppress_tokens) == ([7], [0])
    assert not config.is_multilingual


def test_it_is_known_by_its_file(tiny_whisper: Any, tmp_path: Path) -> None:
    assert not is_ctranslate2(tmp_path)
    assert is_ctranslate2(write_folder(tiny_whisper, tmp_path))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_a_file_that_ends_early_is_refused(tiny_whisper: Any, tmp_path: Path, share: float) -> None:
    file = write_folder(tiny_whisper, tmp_path) / "model.bin"
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    with pytest.raises(SourceError, match="not a whole model of CTranslate2: it ends at byte"):
        convert(tmp_path, tmp_path / "made")


def test_a_file_damaged_inside_is_a_whisper_or_refused(tiny_whisper: Any, tmp_path: Path) -> None:
    file = write_folder(tiny_whisper, tmp_path) / "model.bin"
    data, random = file.read_bytes(), np.random.default_rng(0)
    said: list[str] = []
    for number in range(60):
        broken = bytearray(data)
        for at in random.integers(4, 400 if number % 2 else len(data), 3):
            broken[at] ^= 1 << int(random.integers(0, 8))
        file.write_bytes(bytes(broken))
        try:
            convert(tmp_path, tmp_path / "made")
        except SourceError as error:
            said.append(str(error))
    assert len(said) > 10
    assert all(str(file) in line for line in said)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", '{"added_tokens": 5}'),
        ("tokenizer.json", '{"added_tokens": [7]}'),
        ("tokenizer.json", '{"added_tokens": [{"special": true}]}'),
        ("tokenizer.json", "[]"),
        ("tokenizer.json", "{"),
        ("config.json", "[]"),
        ("config.json", "nothing"),
    ],
)
def test_another_file_that_is_damaged_is_named(
    tiny_whisper: Any, tmp_path: Path, name: str, content: str
) -> None:
    place = write_folder(tiny_whisper, tmp_path)
    (place / name).write_text(content)
    with pytest.raises(SourceError, match=re.escape(str(place / name))):
        open_source(place)


def test_a_problem_is_told_of_the_folder_that_was_given(tiny_whisper: Any, tmp_path: Path) -> None:
    place = write_folder(tiny_whisper, tmp_path)
    said = json.loads((place / "tokenizer.json").read_text())
    (place / "tokenizer.json").write_text(json.dumps({"added_tokens": said["added_tokens"]}))
    with pytest.raises(InputError) as raised:
        open_source(place)
    assert tempfile.gettempdir() + "/edgetfm-" not in str(raised.value)


def test_another_kind_of_model_is_refused(tiny_whisper: Any, tmp_path: Path) -> None:
    place = write_folder(tiny_whisper, tmp_path, spec="TransformerSpec")
    with pytest.raises(SourceError, match="is a TransformerSpec of CTranslate2: only Whisper's"):
        convert(place, tmp_path / "made")


def test_another_layout_is_refused(tiny_whisper: Any, tmp_path: Path) -> None:
    file = write_folder(tiny_whisper, tmp_path) / "model.bin"
    file.write_bytes(struct.pack("<I", 99) + file.read_bytes()[4:])
    with pytest.raises(SourceError, match="it starts with 99, known are 5, 6"):
        convert(tmp_path, tmp_path / "made")


@pytest.mark.slow
def test_a_real_folder_is_a_source_while_it_is_used(
    whisper_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = made_folders()
    source = open_source(whisper_folder)
    assert (source.kind, source.task) == ("ctranslate2", "automatic-speech-recognition")
    assert source.provenance["sha256"].keys() == {"model.bin"}
    assert made_folders() != before
    assert sum(p.numel() for p in source.module().parameters()) > 37_000_000
    del source
    gc.collect()
    assert made_folders() == before


def made_folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("edgetfm-*"))
