"""The vectors of a bundle are read as numbers that fit what lists them, or not at all."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetfm.bundle import Bundle, BundleWriter
from edgetfm.cli._text import ledger_text
from edgetfm.errors import BundleError
from edgetfm.ledger import FEW_MISS, Ledger
from edgetfm.manifest import Component, Manifest, Variant
from edgetfm.proof import Subject
from edgetfm.signature import Feeds, Signature, TensorSpec
from edgetfm.vectors import read_vectors, replay_rungs, write_vectors

SIGNATURE = Signature(
    (TensorSpec("input_ids", "int64", ("batch", "sequence")),),
    (TensorSpec("logits", "float32", ("batch", 2)),),
)
CASES: list[Feeds] = [{"input_ids": np.ones((rows, 3), np.int64)} for rows in (1, 2)]
ANSWERS: list[Feeds] = [{"logits": np.eye(2, dtype=np.float32)[:rows]} for rows in (1, 2)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    with BundleWriter(tmp_path_factory.mktemp("made") / "bundle") as writer:
        writer.write("onnx/model.onnx", "x")
        writer.write("config.json", "{}")
        write_vectors(writer, CASES, ANSWERS, ANSWERS, "int8")
        variants = {"int8": Variant("onnx/model.onnx")}
        components = {"model": Component(SIGNATURE, variants)}
        return writer.commit(Manifest("text-classification", "bert", "native", "int8", components))


def test_an_oracle_may_answer_more_than_a_graph_is_asked_for(tmp_path: Path) -> None:
    """Our own module gives its cache too, where it is the oracle; a graph is asked for logits."""
    kept = [{**answer, "present.0.memory": np.zeros((1, 2), np.float32)} for answer in ANSWERS]
    with BundleWriter(tmp_path / "bundle") as writer:
        writer.write("onnx/model.onnx", "x")
        writer.write("config.json", "{}")
        write_vectors(writer, CASES, kept, ANSWERS, "int8")
        components = {"model": Component(SIGNATURE, {"int8": Variant("onnx/model.onnx")})}
        made = writer.commit(Manifest("text-classification", "bert", "native", "int8", components))
    vectors = read_vectors(made)
    assert [set(answer) for answer in (*vectors.pytorch, *vectors.shipped)] == [{"logits"}] * 4


@pytest.fixture
def bundle(made: Bundle, tmp_path: Path) -> Bundle:
    """One that a test may spoil."""
    return replace(made, root=Path(shutil.copytree(made.root, tmp_path / "bundle")))


def archive(**changes: Any) -> bytes:
    """Of one case, whose members are replaced by name: an array, or the bytes of the file."""
    parts: dict[str, Any] = {
        "0.inputs.input_ids": CASES[0]["input_ids"],
        "0.pytorch.logits": ANSWERS[0]["logits"],
        "0.shipped.logits": ANSWERS[0]["logits"],
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as held:
        for name, value in (parts | changes).items():
            member = io.BytesIO()
            if not isinstance(value, bytes):
                np.lib.format.write_array(member, value)
            held.writestr(f"{name}.npy", value if isinstance(value, bytes) else member.getvalue())
    return buffer.getvalue()


def header(shape: str) -> bytes:
    said = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(said).to_bytes(2, "little") + said


def index(**changes: Any) -> bytes:
    case = {"inputs": {"input_ids": [1, 3]}, "outputs": ["logits"]}
    return json.dumps({"schema": 1, "variant": "int8", "cases": [case]} | changes).encode()


def test_what_was_written_is_read(bundle: Bundle) -> None:
    vectors = read_vectors(bundle)
    assert vectors.variant == "int8"
    for read, written in ((vectors.cases, CASES), (vectors.shipped, ANSWERS)):
        assert [{n: a.tolist() for n, a in part.items()} for part in read] == [
            {n: a.tolist() for n, a in part.items()} for part in written
        ]
    bundle.path("vectors.npz").write_bytes(archive())
    bundle.path("vectors.json").write_bytes(index())
    assert len(read_vectors(bundle).cases) == 1


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\0" * 99, pickle.dumps([1]), archive()[:200], b"PK\x05\x06" + bytes(18)),
        archive(**{"0.shipped.logits": header("(999999999, 999)")}),
        archive(**{"0.shipped.logits": header("(" * 3000)}),
        archive(**{"0.shipped.logits": header("9" * 20_000)}),
        archive(**{"0.shipped.logits": np.array([["a", "b"]])}),
        archive(**{"0.pytorch.logits": np.zeros((1, 2), np.complex64)}),
        archive(**{"0.pytorch.logits": np.array([[None]])}),
    ],
    ids=range(11),
)
def test_no_bytes_are_taken_for_arrays_that_are_none(bundle: Bundle, content: bytes) -> None:
    bundle.path("vectors.npz").write_bytes(content)
    bundle.path("vectors.json").write_bytes(index())
    with pytest.raises(BundleError, match=r"vectors of .* cannot be read") as raised:
        read_vectors(bundle)
    assert "pickle" not in str(raised.value)


NO_CASES: tuple[Any, ...] = (
    *([], [1], {"a": 1}, "abc", [{}], [{"inputs": [], "outputs": 3}]),
    [{"inputs": {"pixels": []}, "outputs": ["logits"]}],
)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"[]", b"\xff", b"[" * 100_000, index(schema=99), index(schema=None)),
        *(index(variant=v) for v in ("fp32", 5, None, ["int8"])),
        *(index(cases=cases) for cases in NO_CASES),
    ],
    ids=lambda c: repr(c[:40]),
)
def test_an_index_that_lists_something_else_is_refused(bundle: Bundle, content: bytes) -> None:
    bundle.path("vectors.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"vectors of .* cannot be read"):
        read_vectors(bundle)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_nothing_is_held_against_answers_that_are_not_finite(bundle: Bundle, odd: float) -> None:
    vectors, subject = read_vectors(bundle), Subject.of_bundle(bundle.manifest)
    broken = replace(
        vectors, pytorch=[{"logits": np.full_like(a["logits"], odd)} for a in vectors.pytorch]
    )
    with pytest.raises(BundleError, match="not finite in logits"):
        replay_rungs(subject, "int8", "int8 on cpu", vectors.shipped, broken, "agreement:0.99")


def test_people_are_told_where_the_budget_binds_nothing(bundle: Bundle) -> None:
    vectors, subject = read_vectors(bundle), Subject.of_bundle(bundle.manifest)
    turned = replace(vectors, pytorch=[{"logits": -a["logits"]} for a in vectors.pytorch])
    for held, told in ((turned, True), (vectors, False)):
        rungs = replay_rungs(subject, "int8", "int8", held.shipped, held, "agreement:0.99")
        assert (FEW_MISS in " ".join(ledger_text(Ledger(rungs)).split())) == told
