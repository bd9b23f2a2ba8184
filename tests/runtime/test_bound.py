"""Large answers lie where the caller wants them, and are the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgetfm.bundle import open_bundle
from edgetfm.errors import InputError
from edgetfm.runtime import bound
from edgetfm.runtime.bound import run_into
from edgetfm.runtime.session import make_session
from edgetfm.runtime.steps import in_two_parts
from edgetfm.signature import Array
from tests.plain import Exported


class Rooms:
    """Makes arrays, and remembers them."""

    def __init__(self) -> None:
        self.made: list[Array] = []

    def __call__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        self.made.append(np.full(shape, np.nan, dtype))
        return self.made[-1]


def test_large_outputs_are_written_into_the_arrays_that_are_given(
    tiny_decoder_bundle: Callable[..., Exported], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = open_bundle(tiny_decoder_bundle("llama").bundle)
    graph = bundle.graph("fp32")
    assert isinstance(graph, Path)
    session = make_session(graph)
    ids = np.arange(5, 45).reshape(2, 20)
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    plain, rooms = session.run(feeds)["logits"], Rooms()
    monkeypatch.setattr(bound, "LARGE_ANSWER", plain.nbytes)
    assert run_into(session, feeds, rooms)["logits"] is rooms.made[0]
    np.testing.assert_array_equal(rooms.made[0], plain)
    one = {name: array[:1] for name, array in feeds.items()}
    np.testing.assert_array_equal(run_into(session, one, rooms)["logits"], plain[:1])
    assert len(rooms.made) == 1  # a smaller answer
    monkeypatch.setattr(bound, "LARGE_ANSWER", 1)
    parts = in_two_parts(session, one, 7, rooms)["logits"]
    np.testing.assert_allclose(parts, plain[:1], atol=1e-5)
    assert parts is rooms.made[-1]
    words = plain.shape[2]
    assert {(1, 7, words), (1, 13, words)} <= {array.shape for array in rooms.made}


def test_an_axis_with_a_wrong_name_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        doubled (float[N] x) => (float[N] y) { y = Concat <axis = 0> (x, x) }"""
    )
    onnx.save(model, tmp_path / "model.onnx")
    monkeypatch.setattr(bound, "LARGE_ANSWER", 1)
    answer = run_into(make_session(tmp_path / "model.onnx"), {"x": np.ones(3, np.float32)}, Rooms())
    assert answer["y"].tolist() == [1.0] * 6


def test_a_number_stays_one_and_what_cannot_be_run_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        scaled (float[N] x, float factor, float[M] z) => (float[N] y, float twice)
        { sum = Add (x, z) y = Mul (sum, factor) twice = Add (factor, factor) }"""
    )
    onnx.save(model, tmp_path / "model.onnx")
    monkeypatch.setattr(bound, "LARGE_ANSWER", 1)
    session = make_session(tmp_path / "model.onnx")
    monkeypatch.setattr(type(session), "run", lambda *_: pytest.fail("it was asked again"))
    x, factor = np.ones(3, np.float32), np.array(2, np.float32)
    answer = run_into(session, {"x": x, "factor": factor, "z": x}, Rooms())
    assert answer["y"].tolist() == [4.0] * 3
    assert answer["twice"].shape == ()
    with pytest.raises(InputError, match=r"x \(3,\), factor \(\), z \(2,\)"):
        run_into(session, {"x": x, "factor": factor, "z": x[:2]}, Rooms())
