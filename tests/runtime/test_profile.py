"""A profile says where the time goes, and whether onnxruntime fused what it should."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetfm.errors import InputError
from edgetfm.graphs import read_graph, save_graph
from edgetfm.quantize import RECIPES, quantize_graph
from edgetfm.runtime.profile import MOST_NODES, profile
from edgetfm.signature import Feeds


@pytest.fixture(scope="module")
def plain(tiny_bundle: Callable[..., Any]) -> Path:
    bundle: Path = tiny_bundle("bert", "text-classification").bundle
    return bundle / "onnx" / "model.onnx"


@pytest.fixture(scope="module")
def feeds(plain: Path) -> Feeds:
    names = [value.name for value in read_graph(plain).graph.inputs]
    return {str(name): np.ones((2, 16), np.int64) for name in names}


@pytest.fixture(scope="module")
def int8(plain: Path, feeds: Feeds, tmp_path_factory: pytest.TempPathFactory) -> Path:
    graph, _ = quantize_graph(read_graph(plain), RECIPES["int8"], [feeds])
    path = tmp_path_factory.mktemp("int8") / "model.onnx"
    save_graph(graph, path)
    return path


def test_shares_of_all_operators_are_the_whole(plain: Path, feeds: Feeds) -> None:
    found = profile(plain, feeds, runs=5)
    assert found.runs == 5
    assert sum(o.share for o in found.operators) == pytest.approx(1.0)
    assert [o.share for o in found.operators] == sorted(o.share for o in found.operators)[::-1]
    assert len(found.nodes) == MOST_NODES
    assert [n.share for n in found.nodes] == sorted(n.share for n in found.nodes)[::-1]
    written = {str(node.name) for node in read_graph(plain).graph}
    assert written & {n.node for n in found.nodes}  # those not fused keep their names


def test_the_nodes_are_those_of_the_optimized_graph(plain: Path, feeds: Feeds) -> None:
    counts = {o.op: o.nodes for o in profile(plain, feeds, runs=1).operators}
    assert counts["FusedMatMul"] == 4  # scores and mixing, of two layers
    assert "Erf" not in counts


def test_fusions_are_held_against_the_graph_as_written(int8: Path, feeds: Feeds) -> None:
    written = [node.op_type for node in read_graph(int8).graph]
    rows = {f.name: f for f in profile(int8, feeds, runs=1).fusions}
    products = rows["dynamic int8 products"]
    assert products.expected == products.matched == written.count("MatMulInteger") > 0
    assert sum(products.became.values()) == products.expected
    assert rows["GELU"].expected == rows["GELU"].matched == 2
    assert rows["layer normalization"].expected == written.count("LayerNormalization")
    assert "static int8 products" not in rows


def test_a_fusion_that_does_not_happen_is_seen(int8: Path, feeds: Feeds) -> None:
    everything = {
        "config_entries": {
            "optimization.disable_specified_optimizers": "GeluFusionL1;GeluFusionL2;BiasGeluFusion"
        }
    }
    gelu = {f.name: f for f in profile(int8, feeds, settings=everything, runs=1).fusions}["GELU"]
    assert (gelu.expected, gelu.matched, gelu.became) == (2, 0, {})


def test_the_facts_are_plain_and_short(plain: Path, feeds: Feeds) -> None:
    facts = profile(plain, feeds, runs=1).to_json()
    assert json.loads(json.dumps(facts)) == facts
    assert set(facts) == {"runs", "nodes", "operators", "fusions"}
    assert set(facts["nodes"][0]) == {"node", "op", "share"}
    assert set(facts["fusions"][0]) == {"name", "expected", "matched", "became"}


def test_nothing_is_left_behind(
    plain: Path, feeds: Feeds, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # where onnxruntime writes a profile unless it is told
    profile(plain, feeds, runs=1)
    with pytest.raises(InputError, match="cannot run"):
        profile(plain, {}, runs=1)
    assert list(tmp_path.iterdir()) == []


def test_runs_must_be_some(plain: Path, feeds: Feeds) -> None:
    with pytest.raises(InputError, match="runs is 0"):
        profile(plain, feeds, runs=0)
