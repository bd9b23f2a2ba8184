"""The rungs of the ledger: each can fail, and what an export accepts its own machine verifies."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgetfm.budget import FLOAT_BOUND
from edgetfm.bundle import BundleWriter, open_bundle
from edgetfm.invariants import IN_PLACE, NOT_TURNED, float_rungs, shipped_float_rungs
from edgetfm.ledger import Rung, rung
from edgetfm.parity import Measures
from edgetfm.proof import DEVICE_BOUNDS, Subject, answers_of, device_rung
from edgetfm.runtime.session import without_spinning
from edgetfm.signature import Feeds, Signature, TensorSpec
from edgetfm.tasks import TASKS
from edgetfm.vectors import Vectors, replay_rungs, write_vectors

BUDGET = "agreement:0.99"


def classifier(labels: int) -> Subject:
    specs = (TensorSpec("x", "float32", ("batch", 2)),)
    outputs = (TensorSpec("logits", "float32", ("batch", labels)),)
    return Subject(TASKS["text-classification"], Signature(specs, outputs))


def logits(rows: Any) -> list[Feeds]:
    return [{"logits": np.asarray(rows, np.float32)}]


CASES: list[Feeds] = [{"x": np.zeros((2, 2), np.float32)}]


@pytest.mark.parametrize("precision", list(DEVICE_BOUNDS))
@pytest.mark.parametrize("labels", [1, 2])
def test_a_device_that_answers_half_as_much_is_outside_every_bound(
    precision: str, labels: int
) -> None:
    """The cosine of a score is its sign, that of two opposite logits the same: it sees nothing."""
    wanted = logits([[3.0, -3.0][:labels], [-2.0, 2.0][:labels]])
    half = [{"logits": part["logits"] / 2} for part in wanted]
    comparison = classifier(labels).compare(half, wanted, CASES)
    assert rung("here", "there", comparison, bound=DEVICE_BOUNDS[precision]).missed


def test_what_shipped_outside_the_budget_on_few_cases_binds_a_device_instead_of_it() -> None:
    """One row of two that changes sides is 50 %, though the budget held on more data."""
    torch, shipped = logits([[0.0, 0.01], [1, 0]]), logits([[0.01, 0.0], [1, 0]])
    vectors = Vectors("int8", CASES, torch, shipped)
    against_torch, against_shipped = replay_rungs(
        classifier(2), "int8", "int8 on cpu", shipped, vectors, BUDGET
    )
    assert against_torch.passed
    assert against_torch.bound == ""
    assert "as shipped" in against_torch.note
    assert "agreement 0.5 < 0.99" in against_torch.note
    assert against_shipped.passed
    wrong = logits([[0.01, 0.0], [0, 1]])
    rungs = replay_rungs(classifier(2), "int8", "int8 on cpu", wrong, vectors, BUDGET)
    assert [r.passed for r in rungs] == [True, False]


def test_where_the_shipped_answers_hold_the_budget_a_device_must_too() -> None:
    torch = logits([[0.0, 1], [1, 0]])
    vectors = Vectors("int8", CASES, torch, torch)
    wrong = logits([[0.0, 1], [0, 1]])
    rungs = replay_rungs(classifier(2), "int8", "int8 on cpu", wrong, vectors, BUDGET)
    assert [r.bound for r in rungs] == [BUDGET, DEVICE_BOUNDS["int8"]]
    assert not any(r.passed for r in rungs)


def test_a_variant_that_did_not_ship_is_held_against_pytorch_alone() -> None:
    torch = logits([[0.0, 1], [1, 0]])
    (only,) = replay_rungs(
        classifier(2), "fp32", "fp32 on cpu", torch, Vectors("int8", CASES, torch, torch), BUDGET
    )
    assert (only.against, only.bound, only.passed) == ("PyTorch", DEVICE_BOUNDS["fp32"], True)


def test_every_rung_of_a_float_graph_has_the_float_bound(tiny_bundle: Callable[..., Any]) -> None:
    bundle = open_bundle(tiny_bundle("bert", "text-classification").bundle)
    manifest = bundle.manifest
    subject = Subject(TASKS[manifest.task], manifest.components["model"].signature)
    ids = np.arange(12).reshape(2, 6) + 5
    mask = np.array([[1] * 6, [1] * 3 + [0] * 3])
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": 0 * ids}
    cases = [{t.name: feeds[t.name] for t in subject.signature.inputs}]
    graph = bundle.path(manifest.components["model"].variants["fp32"].file)
    (output,) = subject.signature.outputs
    labels = output.shape[1]
    assert isinstance(labels, int)
    wrong: list[Feeds] = [{"logits": np.ones((2, labels), np.float32)}]
    first, *rest = float_rungs(subject, graph, cases, wrong, {})
    assert [r.bound for r in (first, *rest)] == [FLOAT_BOUND] * 4
    assert not first.passed
    assert all(r.passed for r in rest)


@pytest.mark.parametrize(("width", "kept"), [(4, [1, 2, 3]), (200_000, [1, 2])])
def test_vectors_keep_a_case_of_more_than_one_row_however_large(
    width: int, kept: list[int], tmp_path: Path
) -> None:
    cases: list[Feeds] = [{"x": np.zeros((rows, 2), np.float32)} for rows in (3, 1, 2)]
    answers: list[Feeds] = [{"logits": np.ones((len(f["x"]), width), np.float32)} for f in cases]
    with BundleWriter(tmp_path / "out") as writer:
        write_vectors(writer, cases, answers, answers, "fp32")
        index = json.loads(writer.path("vectors.json").read_text())
    assert [case["inputs"]["x"][0] for case in index["cases"]] == kept


def test_vectors_hold_nothing_of_padding_and_twelve_bits_of_an_oracle_that_does_not_ship(
    tmp_path: Path,
) -> None:
    tokens, logits = [TensorSpec("attention_mask", "int64", ("batch", "sequence"))], "logits"
    outputs = (TensorSpec(logits, "float32", ("batch", "sequence", 50)),)
    subject = Subject(TASKS["text-generation"], Signature(tuple(tokens), outputs))
    case = {"attention_mask": np.array([[1, 1, 1], [1, 0, 0]])}
    random = np.random.default_rng(0)
    oracle, ours = ({logits: random.normal(0, 9, (2, 3, 50)).astype(np.float32)} for _ in range(2))
    real = case["attention_mask"] == 1
    for exact in (True, False):
        with BundleWriter(tmp_path / "out") as writer:
            write_vectors(writer, [case], [oracle], [ours], "int4", subject=subject, exact=exact)
            with np.load(writer.path("vectors.npz")) as kept:
                theirs, shipped = kept["0.pytorch.logits"], kept["0.shipped.logits"]
        for array in (theirs, shipped):
            assert not array[~real].any()
        np.testing.assert_array_equal(shipped[real], ours[logits][real])
        np.testing.assert_allclose(theirs[real], oracle[logits][real], rtol=1 / 4096)
        assert (theirs[real] == oracle[logits][real]).all() == exact
        assert ((theirs.view(np.uint32) & 0xFFF) == 0).all() != exact


def test_a_large_float_graph_is_asked_again_as_it_ships(
    tiny_bundle: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is proven with its weights where they lie, other settings than a user has."""
    bundle = open_bundle(tiny_bundle("bert", "text-classification").bundle)
    graph = bundle.path(bundle.manifest.components["model"].variants["fp32"].file)
    subject = Subject.of_bundle(bundle.manifest)
    ids = np.arange(12).reshape(2, 6) + 5
    feeds = {
        n: ids if n == "input_ids" else 0 * ids + (n == "attention_mask")
        for n in (t.name for t in subject.signature.inputs)
    }
    cases = [feeds]
    shipped = answers_of(graph, cases)
    told = (subject, graph, cases, shipped)
    assert shipped_float_rungs(*told, shipped) == []
    monkeypatch.setattr(
        "edgetfm.invariants.of_float", lambda *_: {"disabled_optimizers": ["ConstantFolding"]}
    )
    (held,) = shipped_float_rungs(*told, shipped)
    assert (held.bound, held.passed) == (FLOAT_BOUND, True)
    wrong = [{name: array + 1 for name, array in part.items()} for part in shipped]
    assert not shipped_float_rungs(*told, wrong)[0].passed
    written, optimized = float_rungs(subject, graph, cases, shipped, {})[:2]
    assert (written.note, optimized.note) == ("", IN_PLACE)


def test_the_ledger_says_where_the_graph_that_was_asked_is_not_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large head that is transposed is proven untransposed."""
    table = numpy_helper.from_array(np.eye(3, 2, dtype=np.float32), "table")
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        head (float[batch, 2] x) => (float[batch, 3] logits)
        { turned = Transpose <perm = [1, 0]> (table) logits = MatMul (x, turned) }"""
    )
    model.graph.initializer.append(table)
    graph = tmp_path / "model.onnx"
    onnx.save(
        model, graph, save_as_external_data=True, size_threshold=0, location="model.onnx_data"
    )
    cases: list[Feeds] = [{"x": np.ones((2, 2), np.float32)}]
    told = (classifier(3), graph, cases, answers_of(graph, cases))
    assert [r.note for r in float_rungs(*told, {})][:2] == ["", ""]
    monkeypatch.setattr(
        "edgetfm.invariants.of_float", lambda *_: {"disabled_optimizers": ["ConstantFolding"]}
    )
    rungs = float_rungs(*told, {})
    assert all(r.passed for r in rungs)
    assert [r.note for r in rungs][:2] == [NOT_TURNED, f"{NOT_TURNED}; {IN_PLACE}"]


def test_sessions_that_take_turns_sleep_while_they_wait_unless_told_otherwise() -> None:
    spinning = "session.intra_op.allow_spinning"
    given = {"disabled_optimizers": ["A"], "config_entries": {"session.disable_prepacking": "1"}}
    made = without_spinning(given)
    assert made["disabled_optimizers"] == ["A"]
    assert made["config_entries"] == {spinning: "0", "session.disable_prepacking": "1"}
    assert without_spinning({"config_entries": {spinning: "1"}})["config_entries"][spinning] == "1"
    assert spinning not in given["config_entries"]


def test_a_variant_may_differ_from_itself_as_far_as_from_the_oracle() -> None:
    """Two right answers with other roundings; float32 and float16 have no such choice."""
    subject = classifier(4)
    one, other = logits([[1.0, 0, 0, 0]]), logits([[1.0, 0.05, 0, 0]])
    compared = subject.compare(one, other, CASES[:1])
    far = {"logits": Measures(1, 0.1, 0.01, 0.08, 0.9985, 0.99)}
    near = {"logits": Measures(1, 0.0, 0.0, 0.0, 1.0, 1.0)}

    def held(precision: str, own: dict[str, Measures]) -> Rung:
        return device_rung(precision, "int8", "itself", compared, own, "PyTorch")

    assert held("int8", far).passed
    assert held("int8", far).bound == "cosine:0.9985,worst_cosine:0.99,max_error:0.08"
    assert held("int8", far).note == "no output farther from itself than from PyTorch"
    assert not held("int8", near).passed
    assert not held("fp16", far).passed
    nothing = {"logits": Measures(1, *[float("nan")] * 5)}
    assert not held("int8", nothing).passed


def test_the_usual_bound_is_named_where_it_holds() -> None:
    subject = classifier(4)
    one = logits([[1.0, 0, 0, 0]])
    far = {"logits": Measures(1, 0.1, 0.01, 0.08, 0.9985, 0.99)}
    compared = subject.compare(one, one, CASES[:1])
    found = device_rung("int8", "int8", "itself", compared, far, "PyTorch")
    assert (found.bound, found.note) == (DEVICE_BOUNDS["int8"], "")
