"""The verbs on real and tiny models: what is shipped was proven, and a failure ships nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgetfm import export_model, load, quantize_bundle, verify_bundle
from edgetfm.bundle import BundleWriter, open_bundle
from edgetfm.errors import BudgetError, BundleError, DataError, InputError, OutputError, ParityError
from edgetfm.vectors import read_vectors
from edgetfm.workflow.inspect import inspect_bundle
from edgetfm.workflow.made import ExportResult


@pytest.fixture(scope="module")
def shipped(masked_lm_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """The real 4.4M masked language model, int8 beside fp32."""
    output = tmp_path_factory.mktemp("shipped") / "bundle"
    return export_model(masked_lm_folder, output, quantize="int8", keep_fp32=True)


def test_a_real_model_ships_in_int8_inside_its_budget(shipped: ExportResult) -> None:
    assert shipped.variant == "int8"
    assert shipped.ledger.passed
    (tried,) = [t for t in shipped.tried if t["precision"] == "int8"]
    assert tried["inside"]
    assert tried["measures"]["logits"]["kl"] <= 0.01
    sizes = inspect_bundle(shipped.path)["variant_bytes"]
    assert sizes["int8"] < 0.3 * sizes["fp32"]


def test_the_ledger_goes_from_pytorch_down_to_int8(shipped: ExportResult) -> None:
    names = [r.name for r in shipped.ledger.rungs]
    assert names == [
        "bert module",
        "fp32 graph",
        "fp32 optimized",
        "fp32 alone",
        "fp32 on 2 threads",
        "int8",
        "int8 optimized",
        "int8 alone",
        "int8 on 2 threads",
    ]
    saved = json.loads((shipped.path / "parity.json").read_text())
    assert [r["name"] for r in saved["rungs"]] == names
    assert all(r["rows"] > 0 for rung in saved["rungs"] for r in rung["measures"].values())


def test_without_candidates_nothing_is_timed_and_no_calibration_is_named(
    tiny_hf, tmp_path: Path
) -> None:
    source = tiny_hf("bert", "fill-mask", tmp_path / "source")
    told: list[tuple[str, int, int]] = []
    made = export_model(source, tmp_path / "bundle", progress=lambda *step: told.append(step))
    assert made.notes == ()
    assert open_bundle(made.path).manifest.calibration == {}
    steps = {step[0] for step in told}
    assert "measuring latency" not in steps  # no setting would change a node of this graph
    assert "asking the module, shapes" in steps


def test_verify_replays_every_variant(shipped: ExportResult, masked_lm_folder: Path) -> None:
    ledger = verify_bundle(shipped.path, reference=masked_lm_folder)
    assert ledger.passed, ledger.failures
    assert {r.name for r in ledger.rungs} >= {"fp32 on cpu", "int8 on cpu", "int8", "fp32"}


def test_verify_refuses_another_reference(shipped: ExportResult, tiny_hf, tmp_path: Path) -> None:
    other = tiny_hf("bert", "fill-mask", tmp_path / "other")
    with pytest.raises(InputError, match=r"is not what .* was exported from"):
        verify_bundle(shipped.path, reference=other)


def test_a_wrong_answer_fails_verify(shipped: ExportResult, tmp_path: Path) -> None:
    """A consistent bundle whose int8 graph is another model's: only the vectors can tell."""
    old = open_bundle(shipped.path)
    variants = old.manifest.components["model"].variants
    with BundleWriter(tmp_path / "wrong") as writer:
        for name in old.manifest.files:
            writer.copy(old.path(name), name)
        graph = _with_noise(old.path(variants["fp32"].file))
        writer.write(variants["fp32"].file, graph)
        wrong = writer.commit(old.manifest)
    ledger = verify_bundle(wrong.root)
    assert not ledger.passed
    assert all(miss.startswith("fp32 on cpu") for miss in ledger.failures)


def _with_noise(path: Path) -> bytes:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    largest = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    array = numpy_helper.to_array(largest)
    noise = np.random.default_rng(0).normal(size=array.shape).astype(np.float32)
    largest.CopyFrom(numpy_helper.from_array(array + 0.01 * noise, largest.name))
    return model.SerializeToString()


def test_vectors_hold_pytorchs_answers_and_the_shipped_ones(shipped: ExportResult) -> None:
    vectors = read_vectors(open_bundle(shipped.path))
    model = load(shipped.path)
    assert vectors.variant == "int8"
    for feeds, wanted in zip(vectors.cases, vectors.shipped, strict=True):
        read = feeds["attention_mask"].astype(bool)
        np.testing.assert_allclose(
            model.run(feeds)["logits"][read], wanted["logits"][read], atol=1e-4
        )
        assert not wanted["logits"][~read].any()  # nobody reads padding: zeros take no room


def test_quantizing_a_bundle_gives_the_exports_own_graph(
    shipped: ExportResult, tmp_path: Path
) -> None:
    again = quantize_bundle(shipped.path, tmp_path / "again", quantize="int8")
    one, two = (open_bundle(p).manifest.files for p in (shipped.path, again.path))
    assert one["onnx/model_int8.onnx"] == two["onnx/model_int8.onnx"]
    assert again.ledger.passed


@pytest.mark.slow
def test_the_same_export_gives_the_same_bytes(tiny_hf, tmp_path: Path) -> None:
    source = tiny_hf("bert", "feature-extraction", tmp_path / "source")
    options = {"quantize": "int8", "keep_fp32": True, "max_drop": "cosine:0.9"}
    made = [export_model(source, tmp_path / name, **options) for name in ("one", "two")]
    one, two = (open_bundle(r.path).manifest.files for r in made)
    assert one == two


def test_a_budget_that_cannot_be_met_ships_nothing(masked_lm_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BudgetError, match=r"int8 is outside the budget(.|\n)*first node") as caught:
        export_model(
            masked_lm_folder,
            tmp_path / "out",
            quantize="int8",
            max_drop="cosine:0.999999,worst_cosine:0.999999",
        )
    assert caught.value.exit_code == 3
    assert "or ask for auto, the best that is inside" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_auto_ships_nothing_if_the_budget_is_out_of_reach(tiny_hf, tmp_path: Path) -> None:
    source = tiny_hf("bert", "text-classification", tmp_path / "source")
    with pytest.raises(BudgetError, match=r"outside the budget(.|\n)*further from it") as caught:
        export_model(source, tmp_path / "out", quantize="auto", max_drop="max_abs:1e-9")
    assert caught.value.exit_code == 3
    assert "--max-drop" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_kept_recipe_makes_the_bundle_again_byte_for_byte(
    shipped: ExportResult, masked_lm_folder: Path, tmp_path: Path
) -> None:
    again = export_model(
        masked_lm_folder, tmp_path / "again", recipe=shipped.path, keep_fp32=True
    ).path
    for name in ("edgetfm.json", *open_bundle(shipped.path).manifest.files):
        assert (again / name).read_bytes() == (shipped.path / name).read_bytes(), name


def test_a_recipe_of_its_own_leaves_nodes_as_it_says(tiny_hf, tmp_path: Path) -> None:
    source = tiny_hf("bert", "text-classification", tmp_path / "source")
    kept = tmp_path / "recipe.json"
    node = "layers.0.feed_forward.down/MatMul"
    kept.write_text(json.dumps({"name": "mine", "precision": "int8", "keep_float": [node]}))
    made = export_model(source, tmp_path / "out", recipe=kept, max_drop="cosine:0.5")
    assert made.variant == "int8"
    (tried,) = [t for t in made.tried if t["precision"] == "int8"]
    assert [left["node"] for left in tried["facts"]["left_in_float"]].count(node) == 1
    assert any(node in note for note in made.notes)


@pytest.mark.slow
def test_a_recipe_says_when_the_calibration_data_is_another(
    shipped: ExportResult, tmp_path: Path
) -> None:
    data = tmp_path / "texts.txt"
    data.write_text("\n".join(f"boat number {i} came back at {i % 12} o'clock" for i in range(30)))
    options = {"calibration": data, "max_drop": "cosine:0.5"}
    made = quantize_bundle(shipped.path, tmp_path / "out", recipe=shipped.path, **options)
    assert any("the weights will differ" in note for note in made.notes)


def test_an_export_that_differs_from_pytorch_names_the_node(
    tiny_hf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The product's promise, tried on an exporter with a fault: one weight is read wrong."""
    import onnx_ir as ir

    from edgetfm import export

    honest = export.to_onnx

    def faulty(*args, **options):
        model = honest(*args, **options)
        weight = model.graph.initializers["layers.1.feed_forward.up.weight"]
        weight.const_value = ir.tensor(weight.const_value.numpy() * 1.5, name=weight.name)
        return model

    monkeypatch.setattr(export, "to_onnx", faulty)
    source = tiny_hf("bert", "text-classification", tmp_path / "source")
    with pytest.raises(ParityError, match=r"first node that diverges is layers\.1\.feed_forward"):
        export_model(source, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


@pytest.mark.slow
def test_calibration_data_never_enters_the_bundle(tiny_hf, tmp_path: Path) -> None:
    source = tiny_hf("bert", "feature-extraction", tmp_path / "source")
    secret = tmp_path / "texts.txt"
    secret.write_text("\n".join(f"the secret number {i} of maria santos" for i in range(40)))
    bundle = export_model(
        source, tmp_path / "out", quantize="int8", calibration=secret, max_drop="cosine:0.5"
    ).path
    default = export_model(source, tmp_path / "other", quantize=None).path
    mine, theirs = (read_vectors(open_bundle(path)).cases for path in (bundle, default))
    for one, two in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(one["input_ids"], two["input_ids"])
    assert not any(b"secret number" in p.read_bytes() for p in bundle.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantize": "int3"}, "quantize is 'int3'"),
        ({"prefer": "beauty"}, "prefer is 'beauty'"),
        ({"max_drop": "nonsense"}, "not a budget"),
        ({"max_drop": "1%"}, "say with --eval"),
        ({"target": "x86-avx2,z80"}, "unknown target 'z80'"),
        ({"time": "soon"}, "'soon' is no time"),
        ({"samples": 1}, "samples is 1"),
        ({"recipe": "recipe.json", "quantize": "int8"}, "leave out the precision int8"),
        ({"recipe": "absent.json"}, "absent.json cannot be read"),
        ({"task": "juggling"}, "unknown task"),
    ],
)
def test_options_that_cannot_be_are_refused_before_any_work(
    options, message: str, masked_lm_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        export_model(masked_lm_folder, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_variant_that_is_replaced_leaves_no_weights_behind(
    tiny_hf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgetfm import graphs

    monkeypatch.setattr(graphs, "EXTERNAL_OVER", 1000)  # each variant has a file of weights
    source = tiny_hf("bert", "question-answering", tmp_path / "source")
    data = tmp_path / "texts.txt"
    data.write_text("\n".join(f"the captain of boat {i}" for i in range(8)))
    options = {"max_drop": "cosine:0.5", "calibration": data}
    path = export_model(source, tmp_path / "out", quantize="int8", keep_fp32=True, **options).path
    assert "onnx/model_int8.onnx_data" in open_bundle(path).manifest.files
    quantize_bundle(path, quantize="fp16", **options)
    graphs_left = {p.name for p in (path / "onnx").iterdir()}
    assert graphs_left == {
        f"model{suffix}.onnx{data}" for suffix in ("", "_fp16") for data in ("", "_data")
    }


def test_empty_calibration_is_refused(tiny_hf, tmp_path: Path) -> None:
    source = tiny_hf("bert", "text-classification", tmp_path / "source")
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(DataError, match=r"empty\.txt"):
        export_model(source, tmp_path / "out", quantize="int8", calibration=tmp_path / "empty.txt")
    assert not (tmp_path / "out").exists()


def test_vectors_cut_short_are_a_bundle_error(shipped: ExportResult, tmp_path: Path) -> None:
    old = open_bundle(shipped.path)
    with BundleWriter(tmp_path / "cut") as writer:
        for name in old.manifest.files:
            writer.copy(old.path(name), name)
        writer.write("vectors.npz", old.path("vectors.npz").read_bytes()[:1000])
        cut = writer.commit(old.manifest)
    with pytest.raises(BundleError, match=r"vectors of .* cannot be read"):
        read_vectors(cut)


def test_an_output_that_holds_the_source_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bundle" / "source").mkdir(parents=True)
    with pytest.raises(OutputError, match="holds the source"):
        export_model(tmp_path / "bundle" / "source", tmp_path / "bundle", force=True)
