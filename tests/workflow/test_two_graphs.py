"""Encoder-decoders as bundles of two graphs: made, proven, quantized, checked when opened."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgetfm import export_model, load, quantize_bundle, verify_bundle
from edgetfm.bundle import open_bundle
from edgetfm.errors import BudgetError, BundleError, InputError
from edgetfm.graphs import read_graph, save_graph
from edgetfm.merged import merge, unmerge
from edgetfm.proof import WEIGHT_ONLY
from edgetfm.quantize.linear import name_of
from edgetfm.runtime.bench import bench
from edgetfm.runtime.encoder_decoder import (
    EncoderDecoder,
    in_two_parts,
    open_graph,
    token_by_token,
)
from edgetfm.signature import TARGET, Feeds
from edgetfm.stages import DECODER, ENCODER, Pair
from edgetfm.vectors import read_vectors
from edgetfm.workflow.inspect import inspect_bundle
from edgetfm.workflow.made import ExportResult
from tests.conftest import CORPUS
from tests.encoder_decoders import make_tiny_writer

WORDS = re.findall(r"\w+|[^\w\s]+", " ".join(CORPUS))
WIDE = "perplexity:0.2"
"""Random weights: here int8 need only be near."""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportResult]:
    """The folder of a tiny T5, and what an export of it to fp32 and int8 made."""
    folder = tmp_path_factory.mktemp("t5")
    source = make_tiny_writer("t5-gated", folder / "source", WORDS)
    result = export_model(
        source, folder / "bundle", quantize="int8", keep_fp32=True, max_drop=WIDE, samples=8
    )
    return source, result


@pytest.fixture
def bundle(made: tuple[Path, ExportResult], tmp_path: Path) -> Path:
    """A copy of the bundle to change."""
    return Path(shutil.copytree(made[1].path, tmp_path / "bundle"))


@pytest.fixture(scope="session")
def cases(made: tuple[Path, ExportResult]) -> list[Feeds]:
    """What the bundle keeps to be asked again."""
    return read_vectors(open_bundle(made[1].path)).cases


def opened(bundle: Path, precision: str = "fp32") -> EncoderDecoder:
    graph = open_bundle(bundle).graph(precision)
    model = open_graph(graph, threads=1)
    assert isinstance(model, EncoderDecoder)
    return model


def test_both_graphs_ship_under_optimums_names(made: tuple[Path, ExportResult]) -> None:
    found = inspect_bundle(made[1].path)
    files = {
        name: [v["file"] for v in component["variants"].values()]
        for name, component in found["components"].items()
    }
    assert files == {
        ENCODER: ["onnx/encoder_model.onnx", "onnx/encoder_model_int8.onnx"],
        DECODER: ["onnx/decoder_model_merged.onnx", "onnx/decoder_model_merged_int8.onnx"],
    }
    both = found["component_bytes"]
    assert found["variant_bytes"]["int8"] == both[ENCODER]["int8"] + both[DECODER]["int8"]
    assert found["variant_bytes"]["int8"] < 0.7 * found["variant_bytes"]["fp32"]
    report = (made[1].path / "report.html").read_text("utf-8")
    assert "encoder_model" in report
    assert "decoder_model_merged" in report
    config = json.loads((made[1].path / "config.json").read_text("utf-8"))
    assert config["transformers.js_config"]["dtype"] == "int8"


def test_every_step_of_the_proof_holds(made: tuple[Path, ExportResult]) -> None:
    ledger = made[1].ledger
    assert ledger.passed, ledger.failures
    assert [r.name for r in ledger.rungs] == [
        "t5 module",
        "fp32 graph",
        "fp32 optimized",
        "fp32 alone",
        "fp32 on 2 threads",
        "fp32 in two parts",
        "fp32 token by token",
        "int8",
        "int8 optimized",
        "int8 alone",
        "int8 on 2 threads",
        "int8 token by token",
    ]
    judged = next(r for r in ledger.rungs if r.name == "int8")
    assert judged.bound == WIDE
    assert judged.measures["logits"].perplexity is not None
    assert judged.measures["logits"].rows > 10  # what the model wrote itself


def test_a_bundle_is_verified(made: tuple[Path, ExportResult]) -> None:
    ledger = verify_bundle(made[1].path)
    assert ledger.passed, ledger.failures
    assert [r.name for r in ledger.rungs] == ["fp32 on cpu", "int8 on cpu", "int8 on cpu"]


@pytest.mark.slow
def test_a_bundle_is_verified_also_against_its_source(made: tuple[Path, ExportResult]) -> None:
    ledger = verify_bundle(made[1].path, reference=made[0])
    assert ledger.passed, ledger.failures
    assert len(ledger.rungs) == 5


def test_int8_reaches_both_graphs_and_the_branch_of_the_first_step(
    made: tuple[Path, ExportResult],
) -> None:
    graph = open_bundle(made[1].path).graph("int8")
    assert isinstance(graph, Pair)
    for path in (graph.encoder, graph.decoder):
        nodes = list(read_graph(path).graph.all_nodes())
        assert any(n.op_type == "MatMulInteger" for n in nodes)
    inside = [n for n in read_graph(graph.decoder).graph.all_nodes() if "cross.kv" in name_of(n)]
    assert any(n.op_type == "MatMulInteger" for n in inside)


def test_a_later_step_reads_nothing_of_what_the_encoder_gave(
    made: tuple[Path, ExportResult],
) -> None:
    for precision in ("fp32", "int8"):
        graph = open_bundle(made[1].path).graph(precision)
        assert isinstance(graph, Pair)
        model = read_graph(graph.decoder)
        hidden = next(v for v in model.graph.inputs if v.name == "encoder_hidden_states")
        users = list(hidden.consumers())
        assert users
        for user in users:
            branch = user.graph
            assert isinstance(branch, ir.Graph)
            assert branch.name == "first"


def test_branches_come_out_and_go_in_again_byte_for_byte(
    made: tuple[Path, ExportResult], cases: list[Feeds], tmp_path: Path
) -> None:
    graph = open_bundle(made[1].path).graph("fp32")
    assert isinstance(graph, Pair)
    plain, changed = unmerge(read_graph(graph.decoder))
    assert changed
    assert not any(n.op_type == "If" for n in plain.graph)
    save_graph(plain, tmp_path / "plain.onnx")
    one = open_graph(Pair(graph.encoder, tmp_path / "plain.onnx"), threads=1)
    for feeds in cases:
        np.testing.assert_array_equal(
            one.run(feeds)["logits"], opened(made[1].path).run(feeds)["logits"]
        )
    again, changed = merge(plain)
    assert changed
    save_graph(again, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == graph.decoder.read_bytes()
    assert not merge(read_graph(graph.encoder))[1]
    assert not unmerge(read_graph(graph.encoder))[1]


def test_steps_answer_as_the_whole_text(
    made: tuple[Path, ExportResult], cases: list[Feeds]
) -> None:
    model = opened(made[1].path)
    for feeds in cases:
        whole = model.run(feeds)["logits"]
        stepped = token_by_token(model, feeds, 1)["logits"]
        np.testing.assert_allclose(stepped, whole, atol=1e-5 * np.abs(whole).max())
    single = next(f for f in cases if f[TARGET].shape[0] == 1 and f[TARGET].shape[1] > 2)
    halves = in_two_parts(model, single, 2)["logits"]
    whole = model.run(single)["logits"]
    np.testing.assert_allclose(halves, whole, atol=1e-5 * np.abs(whole).max())


def test_rows_that_are_selected_go_on_as_if_alone(
    made: tuple[Path, ExportResult], cases: list[Feeds]
) -> None:
    model = opened(made[1].path)
    feeds = next(f for f in cases if f[TARGET].shape[0] == 3)
    tokens, rows = feeds[TARGET], np.array([2, 0, 2])
    writing = model.begin(feeds)
    writing.step(tokens[:, :1])
    writing.select(rows)
    got = writing.step(tokens[rows, 1:2])
    other = model.begin({n: a[rows] for n, a in feeds.items()})
    other.step(tokens[rows, :1])
    wanted = other.step(tokens[rows, 1:2])
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max())
    assert writing.length == 2


def test_a_bundle_is_loaded_and_timed_as_any_other(bundle: Path, cases: list[Feeds]) -> None:
    model = load(bundle, threads=1)
    assert [t.name for t in model.signature.inputs] == [
        "input_ids",
        "attention_mask",
        "decoder_input_ids",
        "decoder_attention_mask",
    ]
    assert model.run(cases[0])["logits"].shape[:2] == cases[0][TARGET].shape
    with pytest.raises(InputError, match="missing input decoder_input_ids"):
        model.run({n: a for n, a in cases[0].items() if n != TARGET})
    with pytest.raises(InputError, match="an encoder and a decoder, not one graph"):
        _ = model.graph
    found = bench(bundle, runs=3, sequence=9, threads=1, memory=False)
    assert found["generation"]["prompt_tokens"] == 9
    assert found["latency_ms"]["p50"] > 0
    assert found["bytes"] == inspect_bundle(bundle)["variant_bytes"]["int8"]


def test_a_changed_or_missing_second_graph_is_found(bundle: Path) -> None:
    decoder = bundle / "onnx/decoder_model_merged_int8.onnx"
    data = decoder.read_bytes()
    decoder.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(BundleError, match=r"decoder_model_merged_int8\.onnx was changed"):
        open_bundle(bundle)
    decoder.unlink()
    with pytest.raises(BundleError, match=r"decoder_model_merged_int8\.onnx is missing"):
        load(bundle)


def test_a_manifest_that_lacks_a_graph_or_a_variant_is_refused(bundle: Path) -> None:
    file = bundle / "edgetfm.json"
    whole = json.loads(file.read_text("utf-8"))
    lacks = json.loads(file.read_text("utf-8"))
    del lacks["components"][DECODER]
    file.write_text(json.dumps(lacks), "utf-8")
    with pytest.raises(BundleError, match="its components are encoder_model, expected"):
        open_bundle(bundle)
    del whole["components"][ENCODER]["variants"]["fp32"]
    file.write_text(json.dumps(whole), "utf-8")
    with pytest.raises(BundleError, match="its components have different variants"):
        open_bundle(bundle)


def test_graphs_of_two_models_are_no_pair(bundle: Path, made: tuple[Path, ExportResult]) -> None:
    graph = open_bundle(made[1].path).graph("fp32")
    assert isinstance(graph, Pair)
    with pytest.raises(BundleError, match="no encoder and merged decoder"):
        open_graph(Pair(graph.decoder, graph.encoder))


def test_forms_that_a_pair_cannot_have_are_refused(bundle: Path) -> None:
    with pytest.raises(InputError, match="an encoder-decoder cannot be int8-static: it can be"):
        quantize_bundle(bundle, quantize="int8-static")


def content(bundle: Path) -> dict[Path, bytes]:
    return {f: f.read_bytes() for f in sorted(bundle.parent.rglob("*")) if f.is_file()}


def test_an_interruption_leaves_the_old_bundle(bundle: Path) -> None:
    before = content(bundle)

    def interrupted(what: str, _done: int, _of: int) -> None:
        if what == "writing about the sources":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize_bundle(bundle, quantize="int4", samples=8, progress=interrupted)
    assert content(bundle) == before


@pytest.mark.slow
def test_a_budget_out_of_reach_leaves_the_old_bundle(bundle: Path) -> None:
    before = content(bundle)
    with pytest.raises(BudgetError, match="the first node that diverges is"):
        quantize_bundle(bundle, quantize="int4", max_drop="worst_cosine:0.99999", samples=8)
    assert content(bundle) == before


@pytest.mark.slow
def test_a_recipe_makes_both_graphs_again_byte_for_byte(
    made: tuple[Path, ExportResult], bundle: Path
) -> None:
    quantize_bundle(bundle, recipe=made[1].path, samples=8)
    for name in (ENCODER, DECODER):
        file = f"onnx/{name}_int8.onnx"
        assert (bundle / file).read_bytes() == (made[1].path / file).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8-weight", "int4", "fp16", "auto"])
def test_a_bundle_gets_other_variants_in_place(bundle: Path, precision: str) -> None:
    made = quantize_bundle(bundle, quantize=precision, max_drop=WIDE, samples=8)
    assert made.ledger.passed
    assert precision in (made.variant, "auto")
    names = [rung.name for rung in made.ledger.rungs]
    if precision in WEIGHT_ONLY:  # both branches of the decoder, by the bound of float
        assert f"{precision} with float activations token by token" in names
    assert verify_bundle(bundle).passed


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["t5", "bart", "marian", "whisper"])
def test_the_other_families_ship_in_int8(kind: str, tmp_path: Path) -> None:
    source = make_tiny_writer(kind, tmp_path / "source", WORDS)
    made = export_model(source, tmp_path / "bundle", quantize="int8", max_drop=WIDE, samples=8)
    assert made.variant == "int8"
    assert made.ledger.passed, made.ledger.failures
    assert verify_bundle(made.path, reference=source).passed
