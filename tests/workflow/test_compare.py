"""Two bundles side by side: what differs, by how much, and when they cannot be compared."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgetfm
from edgetfm.bundle import BundleWriter, open_bundle
from edgetfm.cli import main
from edgetfm.cli._text import comparison_text
from edgetfm.errors import BundleError, InputError
from edgetfm.graphs import read_graph, write_graph
from edgetfm.ledger import Ledger, rung
from edgetfm.manifest import Variant
from edgetfm.proof import Subject, answers_of
from edgetfm.quantize import RECIPES, quantize_graph
from edgetfm.signature import Feeds
from edgetfm.vectors import write_vectors
from edgetfm.workflow.compare import BundleComparison, _recipe_differences, compare_bundles


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model in fp32 and int8, with vectors and a ledger; int8 is the default."""
    old = open_bundle(tiny_bundle("bert", "text-classification").bundle)
    folder = tmp_path_factory.mktemp("compared") / "one"
    rng = np.random.default_rng(0)
    cases: list[Feeds] = [
        {
            "input_ids": rng.integers(5, 50, shape),
            "attention_mask": np.ones(shape, np.int64),
            "token_type_ids": np.zeros(shape, np.int64),
        }
        for shape in ((1, 16), (3, 9))
    ]
    manifest, fp32 = old.manifest, old.variant("fp32")
    graph, _ = quantize_graph(read_graph(old.path(fp32.file)), RECIPES["int8"], cases)
    with BundleWriter(folder) as writer:
        for name in manifest.files:
            writer.copy(old.path(name), name)
        file, data = write_graph(graph, writer, "onnx/model_int8.onnx")
        truth = answers_of(old.path(fp32.file), cases)
        shipped = answers_of(writer.path(file), cases)
        write_vectors(writer, cases, truth, shipped, "int8")
        measured = Subject.of_bundle(manifest).compare(shipped, truth, cases)
        ledger = Ledger(
            [rung("int8", "PyTorch", measured, bound="cosine:-1"), rung("x", "y", measured)]
        )
        writer.write("parity.json", json.dumps(ledger.to_json()))
        variants = {"fp32": fp32, "int8": Variant(file, data, RECIPES["int8"].to_json())}
        component = replace(manifest.components["model"], variants=variants)
        writer.commit(replace(manifest, default="int8", components={"model": component}))
    return folder


@pytest.fixture(scope="module")
def found(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> BundleComparison:
    """fp32 of one bundle beside int8 of another."""
    other = shutil.copytree(bundle, tmp_path_factory.mktemp("other") / "a@b")
    return compare_bundles(f"{bundle}@fp32", other)


def test_size_latency_and_answers_are_of_b_against_a(found: BundleComparison) -> None:
    assert (found.a.variant, found.b.variant) == ("fp32", "int8")
    assert found.bytes == found.b.bytes / found.a.bytes
    assert 0 < found.latency.median < 100
    assert len(found.latency.rounds) == len(found.a.latency.rounds) > 1
    logits = found.answers["logits"]
    assert 0.5 < logits.cosine < 1.0
    assert logits.agreement is not None
    assert (found.cases, logits.rows) == (2, 4)


def test_a_ledger_has_its_say(bundle: Path, found: BundleComparison, tmp_path: Path) -> None:
    assert found.a.proof is not None
    assert (found.a.proof["held"], found.a.proof["of"]) == (1, 1)  # one of two steps is bound
    assert replace(found.a, ledger=None).proof is None
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    ledger = json.loads((bundle / "parity.json").read_text())
    ledger["rungs"][0] |= {"passed": False, "missed": ["logits: cosine 0.9 < 0.99"]}
    (copy / "parity.json").write_text(json.dumps(ledger))
    same = compare_bundles(bundle, copy)
    assert same.b.proof is not None
    assert same.b.proof["held"] == 0
    assert same.b.proof["missed"] == ["int8: logits: cosine 0.9 < 0.99"]
    assert "missed: int8: logits" in " ".join(comparison_text(same).split())
    # nothing else differs:
    assert same.recipe == {}
    assert same.bytes == 1.0
    assert same.answers["logits"].max_abs == 0.0


def test_recipes_differ_field_by_field(found: BundleComparison) -> None:
    assert found.recipe["precision"] == (None, "int8")
    assert "keep_float" not in found.recipe  # empty there, absent here
    one = {"precision": "int8", "keep_float": ["a", "b"], "by_block": []}
    two = {"precision": "int8", "keep_float": ["b"], "ranges": "mse"}
    assert _recipe_differences(one, two) == {
        "keep_float": (["a", "b"], ["b"]),
        "ranges": (None, "mse"),
    }


def test_the_text_fits_and_names_what_differs(
    found: BundleComparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    nodes = [f"layers.{i}.feed_forward.down/MatMul" for i in range(9)]
    found.recipe["keep_float"] = (nodes, nodes[:2])
    found.recipe["by_block"] = (None, nodes)
    data = {"name": "reviews.csv", "count": 200, "sha256": "0123456789abcdef"}
    text = comparison_text(replace(found, b=replace(found.b, calibration=data)))
    assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in text.splitlines()) <= 100
    words = " ".join(text.split())
    for part in ("fp32", "int8", "9 nodes", "2 nodes", "only here", "and 4 more", "steps hold"):
        assert part in words, part


def test_json_is_whole(found: BundleComparison) -> None:
    data = json.loads(json.dumps(found.to_json()))
    assert set(data) == {
        *("a", "b", "recipe", "bytes_ratio", "latency_ratio", "latency_spread"),
        *("answers", "cases"),
    }
    assert data["b"]["proof"]["of"] > 0
    assert data["a"]["latency_ms"] > 0


def test_other_tasks_and_inputs_are_refused_by_name(
    bundle: Path, tiny_bundle: Callable[..., Any]
) -> None:
    other = tiny_bundle("mpnet", "feature-extraction").bundle
    with pytest.raises(InputError) as error:
        compare_bundles(bundle, other)
    said = str(error.value)
    for part in (
        "text-classification",
        "feature-extraction",
        "bad, fair, good",
        "'token_type_ids'",
        "'logits'",
        "only the second has an output",
    ):
        assert part in said


def test_a_variant_that_is_not_there_is_said(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no variant 'int4'.*fp32, int8"):
        compare_bundles(bundle, f"{bundle}@int4")
    with pytest.raises(BundleError, match="does not exist"):
        compare_bundles(bundle, tmp_path / "nowhere")


def test_the_command_prints_one_object(bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", f"{bundle}@fp32", str(bundle), "--json"]) == 0
    data = json.loads(capfd.readouterr().out)
    assert data["a"]["variant"] == "fp32"
    assert data["answers"]["logits"]["rows"] > 0
    assert main(["compare", str(bundle), f"{bundle}@int4"]) == 2
    assert "no variant 'int4'" in capfd.readouterr().err


def test_the_verb_is_there_in_python() -> None:
    assert edgetfm.compare_bundles is compare_bundles
