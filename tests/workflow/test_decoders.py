"""Decoders through the whole of an export, and a real one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, dequantize, quantize
from safetensors.numpy import load_file, save_file

from edgetfm import export_model, load, quantize_bundle, verify_bundle
from edgetfm.bundle import open_bundle
from edgetfm.errors import BudgetError
from edgetfm.sources._reference import load_gguf
from edgetfm.step_proof import ENDS
from tests.conftest import CORPUS
from tests.decoders import make_tiny_decoder


def test_a_decoder_is_proven_and_its_weights_made_smaller(
    tiny_decoder: Callable[..., Path], tmp_path: Path
) -> None:
    source = tiny_decoder("gpt2", tmp_path / "source")
    made = export_model(source, tmp_path / "bundle", quantize="int8-weight", keep_fp32=True)
    named = {r.name: r for r in made.ledger.rungs}
    assert {"fp32 in two parts", "fp32 token by token", "int8-weight token by token"} <= set(named)
    assert made.ledger.passed
    assert named["int8-weight"].bound == "perplexity:0.01,kl:0.02"
    measured = named["int8-weight"].measures["logits"]
    assert measured.perplexity is not None
    assert measured.kl is not None
    assert named["int8-weight"].note == f"{measured.rows:,} tokens judge"
    manifest = open_bundle(made.path).manifest
    assert manifest.generation["context"] == 128
    for name in ("chat_template.jinja", "generation_config.json", "genai_config.json"):
        assert name in manifest.files
    assert verify_bundle(made.path).passed
    with pytest.raises(BudgetError, match=r"outside the budget perplexity:0\.05,kl:0\.15:"):
        quantize_bundle(made.path, tmp_path / "four", quantize="int4", samples=8)


def test_a_decoder_is_proven_beyond_its_window_and_far_from_the_first_token(
    tiny_decoder: Callable[..., Path], tmp_path: Path
) -> None:
    source = tiny_decoder("mistral", tmp_path / "source", max_position_embeddings=300)
    settings = source / "tokenizer_config.json"
    told = json.loads(settings.read_text(encoding="utf-8"))
    settings.write_text(json.dumps(told | {"model_max_length": 300}), encoding="utf-8")
    made = export_model(source, tmp_path / "bundle")
    rungs = {r.name: r.measures["logits"].rows for r in made.ledger.rungs}
    cases = [(1, 1), (1, 128), (1, 256)]
    begun = 2 * ENDS  # the beginning is cut behind its first token and before its last
    assert rungs["fp32 in two parts"] == 256 + begun + 128 + begun
    assert rungs["fp32 graph"] > sum(length for _, length in cases)
    assert made.ledger.passed


@pytest.mark.slow
def test_decoders_are_tried_in_blocks_and_timed_by_the_token(
    tiny_decoder: Callable[..., Path], tmp_path: Path
) -> None:
    source = tiny_decoder("llama", tmp_path / "source")
    made = export_model(
        source,
        tmp_path / "bundle",
        quantize="auto",
        prefer="size",
        samples=16,
        max_drop="perplexity:0.5",
    )
    assert [t["precision"] for t in made.tried] == ["fp32", "int4"]
    assert all(t["latency"] for t in made.tried)
    assert (made.variant, made.ledger.passed) == ("int4", True)


@pytest.fixture(scope="module")
def random_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random llama as a bundle in fp32."""
    folder = tmp_path_factory.mktemp("llama")
    source = make_tiny_decoder("llama", folder / "source", texts=CORPUS)
    return export_model(source, folder / "bundle").path


@pytest.mark.slow
def test_products_that_lose_most_get_8_bits_until_the_budget_holds(
    random_llama: Path, tmp_path: Path
) -> None:
    """A random model answers otherwise in 4 bits, and its perplexity falls: kl sees it."""
    made = quantize_bundle(
        random_llama,
        tmp_path / "mix",
        prefer="size",
        samples=32,
        max_drop="perplexity:0.05,kl:0.02",
    )
    rows = {t["name"]: t for t in made.tried}
    assert not rows["int4"]["inside"]
    assert rows["int4"]["measures"]["logits"]["kl"] > 0.02
    shipped = next(t for t in made.tried if t["inside"] and t["name"] != "fp32")
    eight, losses = shipped["recipe"]["by_block"], shipped["facts"]["sensitivity"]
    assert 0 < len(eight) < len(losses) == 9
    assert rows["int4"]["bytes"] < shipped["bytes"]
    assert max(losses, key=lambda name: losses[name]) in eight
    assert (made.variant, made.ledger.passed) == ("int4", True)
    assert any(all(name in note for name in eight) for note in made.notes)
    again = quantize_bundle(random_llama, tmp_path / "again", recipe=made.path, samples=32).path
    for name in ("onnx/model_q4.onnx", "edgetfm.json", "vectors.npz"):
        assert (again / name).read_bytes() == (made.path / name).read_bytes(), name


@pytest.mark.slow
def test_weights_in_blocks_of_llama_cpp_are_repacked(
    tiny_decoder: Callable[..., Path], tmp_path: Path
) -> None:
    """A random model is outside the budget in 4 bits, unless its weights have no more."""
    source = tiny_decoder("llama", tmp_path / "source")
    weights = load_file(source / "model.safetensors")
    four = GGMLQuantizationType.Q4_0
    for name, weight in weights.items():
        if weight.ndim == 2:
            weights[name] = np.asarray(dequantize(quantize(weight, four), four), np.float32)
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    made = export_model(source, tmp_path / "bundle", quantize="int4", samples=16)
    (shipped,) = (t for t in made.tried if t["name"] == "int4")
    assert shipped["measures"]["logits"]["kl"] < 0.01
    assert (shipped["recipe"]["rounding"], shipped["recipe"]["block_size"]) == ("nearest", 32)
    assert shipped["recipe"]["by_block"] == []
    assert any("without a second rounding" in note for note in made.notes)


@pytest.mark.slow
def test_a_bundle_of_a_decoder_is_quantized_without_pytorch(
    tiny_decoder: Callable[..., Path], tmp_path: Path
) -> None:
    source = tiny_decoder("qwen3", tmp_path / "source")
    made = export_model(source, tmp_path / "bundle")
    four = quantize_bundle(made.path, quantize="int4", max_drop="perplexity:0.5", samples=8)
    assert (four.variant, four.ledger.passed) == ("int4", True)
    genai = json.loads((four.path / "genai_config.json").read_text(encoding="utf-8"))
    assert genai["model"]["decoder"]["filename"] == "onnx/model_q4.onnx"


@pytest.mark.slow
def test_smollm2_answers_as_transformers_reads_it(smollm2_folder: Path, tmp_path: Path) -> None:
    made = export_model(smollm2_folder, tmp_path / "bundle")
    assert made.ledger.passed
    (file,) = smollm2_folder.glob("*.gguf")
    theirs, session = load_gguf(file), load(made.path).session
    ids = _ids(made.path)
    with torch.inference_mode():
        wanted = theirs(input_ids=torch.from_numpy(ids)).logits.numpy()
    got = session.run({"input_ids": ids, "attention_mask": np.ones_like(ids)})["logits"]
    assert np.abs(got - wanted).max() / np.abs(wanted).max() < 1e-4


def _ids(bundle: Path) -> np.ndarray:
    """A sentence in the model's own tokens, [1, length]."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    text = "The river rose in the night, and in the morning the mill was gone."
    return np.array([tokenizer.encode(text).ids], np.int64)


@pytest.mark.slow
def test_a_window_longer_than_any_text_asked_is_said(
    tiny_decoder: Callable[..., Path], tmp_path: Path
) -> None:
    source = tiny_decoder(
        "mistral", tmp_path / "source", sliding_window=999, max_position_embeddings=2048
    )
    made = export_model(source, tmp_path / "bundle")
    assert any("window of 999 tokens is longer" in note for note in made.notes)
