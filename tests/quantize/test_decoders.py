"""Weight-only recipes on the graphs of decoders, whose feeds are whole texts without a past."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgetfm.graphs import read_graph, save_graph
from edgetfm.quantize import RECIPES, Recipe, quantize_graph
from edgetfm.quantize.oracle import dequantized
from edgetfm.quantize.recipes import for_decoders
from edgetfm.runtime.session import make_session
from edgetfm.signature import Feeds
from tests.plain import Exported
from tests.quantize.test_weight_only import cosine

EIGHT = for_decoders(RECIPES["int8-weight"])
FOUR = for_decoders(RECIPES["int4"])
Bundles = Callable[..., Exported]


def texts(rng: np.random.Generator, count: int = 6) -> list[Feeds]:
    """Ragged batches of two, padded on the right."""
    made = []
    for _ in range(count):
        lengths = rng.integers(9, 24, 2)
        mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
        made.append({"input_ids": rng.integers(3, 250, mask.shape) * mask, "attention_mask": mask})
    return made


def graph(bundles: Bundles, model_type: str, **config: Any) -> ir.Model:
    return read_graph(bundles(model_type, **config).bundle / "onnx/model.onnx")


def logits(model: ir.Model, feeds: Feeds, folder: Path) -> Any:
    save_graph(model, folder / "asked.onnx")
    return make_session(folder / "asked.onnx", threads=1).run(feeds)["logits"][
        feeds["attention_mask"].astype(bool)
    ]


@pytest.mark.parametrize("model_type", ["gpt2", "llama", "gemma3_text"])
def test_every_family_goes_into_blocks_by_calibration_on_whole_texts(
    tiny_decoder_bundle: Bundles, rng: np.random.Generator, tmp_path: Path, model_type: str
) -> None:
    """A random model magnifies errors, so 4 bits are judged by what their weights stand for."""
    model, fit = graph(tiny_decoder_bundle, model_type, vocab_size=1200), texts(rng)
    judged = texts(rng, 1)[0]
    for recipe, most in ((EIGHT, 0.015), (FOUR, 0.1)):
        small, facts = quantize_graph(model, recipe, fit)
        left = [node.op_type for node in small.graph]
        assert "MatMul" not in left
        assert left.count("GatherBlockQuantized") == 1
        assert facts["share_of_multiply_accumulates_in_blocks"] == 1
        assert all(node["error"] < most for node in facts["nodes"])
        wanted = model if recipe is EIGHT else dequantized(small)
        got = logits(small, judged, tmp_path)
        assert cosine(got, logits(wanted, judged, tmp_path)) > 0.995


def lazy(model: ir.Model) -> tuple[ir.Model, list[str]]:
    """The same graph, whose large weights are read when they are asked for, and the reads."""
    copy, reads = model.clone(), []

    def reading(tensor: ir.TensorProtocol, name: str) -> ir.LazyTensor:
        def read() -> ir.TensorProtocol:
            reads.append(name)
            return ir.Tensor(tensor.numpy().copy(), name=name)

        return ir.LazyTensor(read, dtype=tensor.dtype, shape=tensor.shape, name=name, cache=False)

    for name, value in copy.graph.initializers.items():
        if value.const_value is not None and value.const_value.nbytes > 4096:
            value.const_value = reading(value.const_value, name)
    return copy, reads


@pytest.mark.parametrize("recipe", [FOUR, replace(FOUR, rounding="nearest"), EIGHT])
def test_weights_that_are_read_when_they_are_asked_for_give_the_same_bytes(
    tiny_decoder_bundle: Bundles, rng: np.random.Generator, tmp_path: Path, recipe: Recipe
) -> None:
    model = graph(tiny_decoder_bundle, "llama", vocab_size=1200)
    streamed, reads = lazy(model)
    fit = texts(rng, 2) if recipe.needs_calibration else []
    for name, one in (("read.onnx", model), ("streamed.onnx", streamed)):
        save_graph(quantize_graph(one, recipe, fit)[0], tmp_path / name)
    assert (tmp_path / "read.onnx").read_bytes() == (tmp_path / "streamed.onnx").read_bytes()
    if not fit:
        assert reads
        assert len(reads) == len(set(reads)), "a weight is read once"


def test_the_head_is_calibrated_on_every_token_and_not_on_the_last(
    tiny_decoder_bundle: Bundles, rng: np.random.Generator
) -> None:
    """Work is counted on the longest text: a head of one token would be next to nothing."""
    model, fit = graph(tiny_decoder_bundle, "llama", vocab_size=1200), texts(rng, 2)
    _, facts = quantize_graph(model, FOUR, fit)
    head = max(facts["nodes"], key=lambda node: node["shape"][1])
    sizes = {node["node"]: node["shape"][0] * node["shape"][1] for node in facts["nodes"]}
    _, without = quantize_graph(model, replace(FOUR, keep_float=(head["node"],)), fit)
    share = without["share_of_multiply_accumulates_in_blocks"]
    assert 1 - share == pytest.approx(sizes[head["node"]] / sum(sizes.values()), rel=1e-3)
