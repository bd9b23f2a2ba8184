"""However a decoder's texts are cut, it answers the same: strictly in float, else by the budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgetfm.bundle import open_bundle
from edgetfm.graphs import read_graph, save_graph
from edgetfm.ledger import Rung
from edgetfm.proof import Subject, answers_of
from edgetfm.quantize import RECIPES, quantize_graph
from edgetfm.quantize.float_activations import with_float_activations
from edgetfm.signature import Feeds
from edgetfm.step_proof import variant_steps
from tests.plain import export_plain

BUDGET = "agreement:0.9,perplexity:0.1"


@dataclass
class Variant:
    """An int4 graph of a tiny decoder, texts, and what it answers to them as a whole."""

    path: Path
    subject: Subject
    texts: list[Feeds]
    answers: list[Feeds]

    def rungs(self, graph: Path) -> list[Rung]:
        shipped, strict = variant_steps(
            self.subject,
            graph,
            "int4",
            self.texts,
            {},
            self.texts,
            answers_of(graph, self.texts),
            self.answers,
            BUDGET,
        )
        return strict(1) + shipped(1)


@pytest.fixture(scope="module")
def variant(tiny_decoder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Variant:
    folder = tmp_path_factory.mktemp("steps")
    made = export_plain(tiny_decoder("llama", folder / "source"), folder / "bundle")
    bundle = open_bundle(made.bundle)
    fp32 = bundle.path(bundle.manifest.components["model"].variants["fp32"].file)
    graph, _ = quantize_graph(read_graph(fp32), replace(RECIPES["int4"], rounding="nearest"), [])
    path = folder / "model_q4.onnx"
    save_graph(graph, path, external_over=0)
    random = np.random.default_rng(0)
    mask = np.arange(20) < np.array([[20], [13], [7]])
    texts = [
        {"input_ids": random.integers(5, 300, shape), "attention_mask": ones}
        for shape, ones in (((1, 24), np.ones((1, 24), np.int64)), ((3, 20), mask.astype(np.int64)))
    ]
    return Variant(path, Subject.of_bundle(bundle.manifest), texts, answers_of(path, texts))


def test_a_variant_is_held_strictly_in_float_and_by_the_budget_as_it_ships(
    variant: Variant,
) -> None:
    strict_parts, strict_tokens, *shipped = variant.rungs(variant.path)
    for rung in (strict_parts, strict_tokens):
        assert (rung.bound, rung.passed) == ("max_error:1e-5", True)
        assert rung.name.startswith("int4 with float activations")
    assert "its first 16 tokens" in strict_parts.note
    assert "the last 4 tokens of the longest text" in strict_tokens.note
    for rung in shipped:
        assert (rung.bound, rung.passed) == (BUDGET, True)
        assert "activations" in rung.note
    assert [r.against for r in shipped] == ["PyTorch", "PyTorch", "int4 whole", "int4 whole"]


def _of_another_layer(model: ir.Model) -> None:
    """Each layer attends to what the other kept; a whole text keeps nothing."""
    nodes = [n for n in model.graph if n.op_type == "GroupQueryAttention"]
    pasts = [list(n.inputs[3:5]) for n in nodes]
    for node, past in zip(nodes, reversed(pasts), strict=True):
        node.replace_input_with(3, past[0])
        node.replace_input_with(4, past[1])


def _one_place_early(model: ir.Model) -> None:
    """Every token after the first step stands, and sees, one place before its own."""
    nodes = [n for n in model.graph if n.op_type == "GroupQueryAttention"]
    lengths, past = nodes[0].inputs[5], nodes[0].inputs[3]
    size = ir.node("Shape", [past], attributes={"start": 2, "end": 3})
    wide = ir.node("Cast", size.outputs, attributes={"to": ir.DataType.INT32})
    sign = ir.node("Sign", wide.outputs)
    early = ir.node("Sub", [lengths, sign.outputs[0]])
    for node in nodes:
        node.replace_input_with(5, early.outputs[0])
    model.graph.insert_before(nodes[0], [size, wide, sign, early])


@pytest.mark.parametrize("broken", [_of_another_layer, _one_place_early])
def test_a_cache_that_is_wrong_is_outside_both_bounds(
    broken: Callable[[ir.Model], None], variant: Variant, tmp_path: Path
) -> None:
    model = read_graph(variant.path)
    broken(model)
    path = tmp_path / "model_q4.onnx"
    save_graph(model, path)
    for whole, same in zip(answers_of(path, variant.texts), variant.answers, strict=True):
        np.testing.assert_array_equal(whole["logits"], same["logits"])
    assert not any(rung.passed for rung in variant.rungs(path))


def _late(model: ir.Model) -> None:
    """From the 21st token of a cache on, a step stands one place too early."""
    nodes = [n for n in model.graph if n.op_type == "GroupQueryAttention"]
    lengths, past = nodes[0].inputs[5], nodes[0].inputs[3]
    room = ir.node("Shape", [past], attributes={"start": 2, "end": 3})
    wide = ir.node("Cast", room.outputs, attributes={"to": ir.DataType.INT32})
    sign = ir.node("Sign", wide.outputs)
    twenty = ir.node("Constant", [], attributes={"value": ir.tensor(np.array([20], np.int32))})
    over = ir.node("Greater", [lengths, twenty.outputs[0]])
    late = ir.node("Cast", over.outputs, attributes={"to": ir.DataType.INT32})
    both = ir.node("Mul", [late.outputs[0], sign.outputs[0]])
    early = ir.node("Sub", [lengths, both.outputs[0]])
    for node in nodes:
        node.replace_input_with(5, early.outputs[0])
    model.graph.insert_before(nodes[0], [room, wide, sign, twenty, over, late, both, early])


def test_a_fault_of_late_steps_is_not_hidden_by_what_was_read_at_once(
    variant: Variant, tmp_path: Path
) -> None:
    """Three tokens of 64 are wrong, of which 20 are read in steps."""
    model = read_graph(variant.path)
    _late(model)
    path = tmp_path / "model_q4.onnx"
    save_graph(model, path)
    tokens = variant.rungs(path)[-1]
    assert not tokens.passed, tokens


def test_float_activations_share_the_weights_and_leave_nothing_behind(variant: Variant) -> None:
    before = {file: file.stat().st_size for file in variant.path.parent.iterdir() if file.is_file()}
    with with_float_activations(variant.path) as same:
        assert same.stat().st_size < 100_000 < before[Path(f"{variant.path}_data")]
        model = onnx.load(same, load_external_data=False)
    levels = [
        attribute.i
        for node in model.graph.node
        for attribute in node.attribute
        if attribute.name == "accuracy_level"
    ]
    assert levels
    assert set(levels) == {1}
    assert before == {f: f.stat().st_size for f in variant.path.parent.iterdir() if f.is_file()}
