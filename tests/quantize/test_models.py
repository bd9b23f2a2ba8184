"""Whole exported models, tiny random ones and a small real one, through each recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgetfm.bundle import open_bundle
from edgetfm.graphs import read_graph, save_graph
from edgetfm.quantize import RECIPES, quantize_graph, read_calibration
from edgetfm.quantize.plan import Memo
from edgetfm.runtime.preprocess import Preprocessor
from edgetfm.runtime.session import make_session
from edgetfm.signature import Feeds


def prepared(folder: Path) -> tuple[ir.Model, list[Feeds], list[Feeds]]:
    """The float graph of a bundle, batches to calibrate on, and others to judge by."""
    bundle = open_bundle(folder)
    manifest = bundle.manifest
    signature = manifest.components["model"].signature
    preprocessor = Preprocessor.from_folder(folder, manifest.preprocessing, signature)
    modality = "image" if "image" in manifest.preprocessing else "text"
    items: Any = read_calibration(None, modality).items[:48]
    encode = preprocessor.images if modality == "image" else preprocessor.texts
    made = [encode(list(items[i : i + 4])) for i in range(0, len(items), 4)]
    return read_graph(bundle.path(bundle.variant("fp32").file)), made[:9], made[9:]


def rows(output: Any, feeds: Feeds) -> Any:
    mask = feeds.get("attention_mask")
    return output[mask.astype(bool)] if mask is not None and output.ndim == 3 else output


def mean_cosine(model: ir.Model, float_model: ir.Model, judged: list[Feeds], folder: Path) -> float:
    sessions = []
    for name, graph in (("got", model), ("wanted", float_model)):
        save_graph(graph, folder / f"{name}.onnx")
        sessions.append(make_session(folder / f"{name}.onnx", threads=1))
    cosines = []
    for feeds in judged:
        got, wanted = (s.run(feeds) for s in sessions)
        for name in wanted:
            a, b = (
                rows(side[name], feeds).reshape(-1, wanted[name].shape[-1])
                for side in (got, wanted)
            )
            cosines.append((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))
    return float(np.concatenate(cosines).mean())


CASES = [
    ("bert", "feature-extraction"),
    ("mpnet", "feature-extraction"),
    ("distilbert", "text-classification"),
    ("vit", "image-classification"),
]


@pytest.mark.parametrize(("model_type", "task"), CASES)
def test_int8_follows_float_on_texts_it_has_not_seen(
    tiny_bundle: Callable[..., Any], tmp_path: Path, model_type: str, task: str
) -> None:
    model, fit, judged = prepared(tiny_bundle(model_type, task).bundle)
    int8, facts = quantize_graph(model, RECIPES["int8"], fit)
    assert mean_cosine(int8, model, judged, tmp_path) > 0.99
    layers = 2 * 4
    assert facts["matrix_products_in_int8"] >= layers
    reasons = {entry["reason"] for entry in facts["left_in_float"]}
    assert {reason.partition(";")[0] for reason in reasons} <= {
        "both inputs are activations",
        "a convolution",
    }
    assert ("a convolution" in str(reasons)) == (model_type == "vit")


@pytest.mark.parametrize(("model_type", "task"), CASES)
def test_float16_follows_float(
    tiny_bundle: Callable[..., Any], tmp_path: Path, model_type: str, task: str
) -> None:
    model, _, judged = prepared(tiny_bundle(model_type, task).bundle)
    half, _ = quantize_graph(model, RECIPES["fp16"], [])
    assert mean_cosine(half, model, judged, tmp_path) > 0.9995


def test_post_norm_smoothing_folds_behind_attention_and_multiplies_elsewhere(
    tiny_bundle: Callable[..., Any],
) -> None:
    model, fit, _ = prepared(tiny_bundle("bert", "feature-extraction").bundle)
    _, facts = quantize_graph(model, RECIPES["int8"], fit)
    ways = {e["node"]: e.get("smoothing", "none") for e in facts["nodes"]}
    for node, way in ways.items():
        if "attention.out" in node:
            assert way in ("none", f"folded into {node.replace('.out/', '.qkv/')}")
        else:
            assert way in ("none", "a Mul")
    assert any(way.startswith("folded") for way in ways.values())


def test_pre_norm_smoothing_folds_into_the_norms(tiny_bundle: Callable[..., Any]) -> None:
    model, fit, _ = prepared(tiny_bundle("vit", "image-classification").bundle)
    _, facts = quantize_graph(model, RECIPES["int8"], fit)
    for entry in facts["nodes"]:
        if "qkv" in entry["node"] or ".up" in entry["node"]:
            assert "norm" in entry.get("smoothing", "norm")


def test_a_real_masked_language_model_shrinks_to_less_than_a_third(
    masked_lm_bundle: Any, tmp_path: Path, optimized: Callable[[ir.Model], list[str]]
) -> None:
    """Its table of words is also its last layer: stored once, in int8, for both."""
    model, fit, judged = prepared(masked_lm_bundle.bundle)
    int8, facts = quantize_graph(model, RECIPES["int8"], fit)
    assert mean_cosine(int8, model, judged, tmp_path) > 0.999
    small, large = ((tmp_path / f"{n}.onnx").stat().st_size for n in ("got", "wanted"))
    assert small < large / 3.3
    assert facts["matrix_products_in_int8"] == 10
    assert facts["share_of_multiply_accumulates_in_int8"] > 0.95

    assert optimized(int8).count("DynamicQuantizeMatMul") == 10


def test_a_search_makes_the_bytes_that_its_recipe_makes_anew(
    tiny_bundle: Callable[..., Any], tmp_path: Path
) -> None:
    """What was decided for other graphs is used again, whatever tensors were asked for then."""
    model, feeds, _ = prepared(tiny_bundle("bert", "feature-extraction").bundle)
    products = [node.name for node in model.graph if node.name.endswith("MatMul")]
    memo = Memo()
    quantize_graph(model, RECIPES["int8"], feeds, memo=memo)
    for number, name in enumerate(n for n in products if "feed_forward" in n or "qkv" in n):
        recipe = replace(RECIPES["int8"], keep_float=(name,))
        made = {}
        for kind, known in (("searched", memo), ("anew", None)):
            graph, _ = quantize_graph(model, recipe, feeds, memo=known)
            path = tmp_path / f"{kind}{number}.onnx"
            save_graph(graph, path)
            made[kind] = path.read_bytes()
        assert made["searched"] == made["anew"], name
