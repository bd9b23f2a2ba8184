from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgetfm.errors import DataError
from edgetfm.quantize import RECIPES, observe, quantize_graph
from edgetfm.quantize.items import items
from edgetfm.quantize.observe import Activation, parted, token_size
from edgetfm.signature import Feeds


def looked_up(builder: Any, rng: np.random.Generator) -> ir.Model:
    """Row i of the table is all i, so that statistics can be told by eye."""
    b = builder(input_ids=["n", "m"], attention_mask=["n", "m"])
    table = np.repeat(np.arange(100, dtype="f4")[:, None], 4, axis=1)
    h = b("Gather", b.constant(table), "input_ids", name="h")
    mask = b("Unsqueeze", b("Cast", "attention_mask", to=1), b.constant(np.array([2])))
    b("Mul", b("Identity", h, name="same"), mask, name="y")
    return b.model(y=["n", "m", 4])


def observed(model: ir.Model, feeds: list[Feeds]) -> Activation:
    ((seen, _),) = observe.observe(model, {"h:0": 4}, feeds, gram=True)
    return seen["h:0"]


@pytest.mark.parametrize("side", ["right", "left", "middle"])
def test_padding_never_enters(builder: Any, rng: np.random.Generator, side: str) -> None:
    ids = np.array([[5, 7, 9, 11, 99, 99], [20, 30, 40, 50, 60, 70]])
    mask = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
    if side == "left":
        ids, mask = ids[:, ::-1].copy(), mask[:, ::-1].copy()
    if side == "middle":
        order = [0, 4, 1, 2, 5, 3]
        ids, mask = ids[:, order], mask[:, order]
    feeds = [{"input_ids": ids, "attention_mask": mask}]
    seen = observed(looked_up(builder, rng), feeds)
    assert seen.rows == 10
    assert (seen.low[0], seen.high[0]) == (5, 70)
    assert [len(rows) for rows in seen.sample] == [4, 6]
    assert seen.gram is not None
    assert np.trace(seen.gram) == pytest.approx(10 * 4)  # every token has size 1


def test_rows_that_are_masked_out_are_left_out(builder: Any, rng: np.random.Generator) -> None:
    ids = np.array([[5, 7], [9, 9]])
    found = list(items([{"input_ids": ids, "attention_mask": np.array([[1, 1], [0, 0]])}]))
    assert [item.number for item in found] == [1]
    with pytest.raises(DataError, match="no calibration data"):
        observed(
            looked_up(builder, rng),
            [{"input_ids": ids, "attention_mask": np.zeros((2, 2), np.int64)}],
        )


def test_only_what_is_per_token_is_cut_to_the_real_tokens() -> None:
    """A row of two real tokens of three, beside a cache of three heads and a picture."""
    feeds = {
        "input_ids": np.zeros((1, 3), np.int64),
        "attention_mask": np.array([[1, 1, 0]]),
        "features": np.zeros((1, 3, 5), np.float32),
        "past_key_values.0.key": np.zeros((1, 3, 0, 4), np.float32),
        "pixel_values": np.zeros((1, 3, 8, 8), np.float32),
    }
    (item,) = items([feeds])
    assert {name: a.shape for name, a in item.feeds.items()} == {
        "input_ids": (1, 2),
        "attention_mask": (1, 2),
        "features": (1, 2, 5),
        "past_key_values.0.key": (1, 3, 0, 4),
        "pixel_values": (1, 3, 8, 8),
    }


def test_statistics_do_not_depend_on_how_items_are_batched(
    builder: Any, rng: np.random.Generator
) -> None:
    model = looked_up(builder, rng)
    ids, mask = rng.integers(0, 100, (4, 6)), np.ones((4, 6), np.int64)
    one = [{"input_ids": ids, "attention_mask": mask}]
    four = [{"input_ids": i[None], "attention_mask": mask[:1]} for i in ids]
    one_by_one, together = (observed(model, feeds).gram for feeds in (four, one))
    assert one_by_one is not None
    assert (one_by_one == together).all()


def test_observing_leaves_the_graph_as_it_was(builder: Any, rng: np.random.Generator) -> None:
    model = looked_up(builder, rng)
    feeds = [{"input_ids": np.ones((1, 3), np.int64), "attention_mask": np.ones((1, 3), np.int64)}]
    ((_, shapes),) = observe.observe(model, {"h:0": 4}, feeds, gram=False, shapes_of=["same:0"])
    assert shapes == {"h:0": (1, 3, 4), "same:0": (1, 3, 4)}
    assert [v.name for v in model.graph.outputs] == ["y:0"]
    assert [v.name for n in model.graph for v in n.outputs if v.is_graph_output()] == ["y:0"]


def test_a_graph_in_pieces_gives_what_it_gives_whole(
    builder: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a residual, and a mask that every piece needs: both wait between the pieces."""
    b = builder(x=["n", "m", 8], attention_mask=["n", "m"])
    mask = b("Unsqueeze", b("Cast", "attention_mask", to=1), b.constant(np.array([2])))
    h = "x"
    for layer in range(4):
        inner = b("Mul", b.linear(h, rng.normal(size=(8, 8)).astype("f4")), mask)
        h = b("Add", h, b("Tanh", inner), name=f"layer_{layer}")
    model = b.model(layer_3=["n", "m", 8])
    feeds = [
        {"x": rng.normal(size=(2, 5, 8)).astype("f4"), "attention_mask": np.ones((2, 5), np.int64)}
        for _ in range(3)
    ]
    names = {"x": 8, "layer_0:0": 8, "layer_1:0": 8, "layer_2:0": 8}
    whole = list(observe.observe(model, names, feeds, gram=True, shapes_of=["layer_3:0"]))
    monkeypatch.setattr(observe, "PIECE_BYTES", 1)
    pieces = list(observe.observe(model, names, feeds, gram=True, shapes_of=["layer_3:0"]))
    assert [len(whole), len(pieces)] == [1, 4]
    (seen, shapes), (last, last_shapes) = whole[0], pieces[-1]
    assert shapes["layer_3:0"] == last_shapes["layer_3:0"] == (1, 5, 8)
    assert list(last) == ["layer_2:0"]
    for part, _ in pieces:
        for name, activation in part.items():
            assert activation.gram is not None
            np.testing.assert_allclose(activation.gram, seen[name].gram, rtol=1e-5)
            np.testing.assert_allclose(activation.largest, seen[name].largest, rtol=1e-5)


def test_tensors_are_observed_in_parts_that_fit_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observe, "PIECE_BYTES", 3 * observe.SAMPLE_ROWS * 64 * 4)
    found = list(parted(dict.fromkeys("abcdefg", 64), gram=False))
    assert [list(part) for part in found] == [["a", "b", "c"], ["d", "e", "f"], ["g"]]


@pytest.mark.parametrize("name", ["int8", "int8-static", "int8-weight", "int4"])
def test_weights_of_too_many_inputs_for_a_gram_are_rounded_to_nearest_and_it_is_said(
    name: str, builder: Any, rng: np.random.Generator
) -> None:
    inputs = observe.LARGEST_GRAM + 32  # a gram of them would be a GiB, of 300,000 335
    b = builder(x=["n", inputs])
    h = b.linear("x", rng.normal(size=(inputs, 4)).astype("f4"), name="wide")
    b.linear(b("Relu", h), rng.normal(size=(4, 32)).astype("f4"), name="narrow")
    feeds = [{"x": rng.normal(size=(4, inputs)).astype("f4")} for _ in range(4)]
    facts = quantize_graph(b.model(narrow=["n", 32]), RECIPES[name], feeds)[1]
    said = {entry["node"]: entry.get("rounding") for entry in facts["nodes"]}
    assert said == {"wide": "nearest: too many inputs to compensate", "narrow": None}
    seen = observe.Activation.empty(300_000, gram=True)
    assert seen.gram is None


def test_the_sample_is_whole_whether_or_not_items_count_in_tokens(builder: Any) -> None:
    b = builder(x=["n", "m", 4])
    b("Identity", "x", name="h")
    model = b.model(h=["n", "m", 4])
    rng = np.random.default_rng(0)
    for feeds in (
        [{"x": rng.normal(size=(1, 4, 4)).astype("f4")} for _ in range(1000)],  # 16 numbers, 4 rows
        [{"x": rng.normal(size=(1, 400, 4)).astype("f4")} for _ in range(20)],
    ):
        seen = observed(model, feeds)
        assert observe.SAMPLE_ROWS <= seen.sampled < observe.SAMPLE_ROWS + 400
        first = {float(rows[0, 0]) for rows in seen.sample}
        later = {float(f["x"][0, 0, 0]) for f in feeds[len(feeds) // 4 :]}
        assert first & later  # from all over the data


def test_the_gram_of_much_data_is_estimated_from_items_all_over_it(
    builder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    b = builder(x=["n", "m", 4])
    model = b.model(**{b("Identity", "x", name="h").removesuffix(":0"): ["n", "m", 4]})
    rng = np.random.default_rng(0)
    # The second half of the data has another direction than the first.
    feeds = [
        {
            "x": (
                rng.normal(size=(1, 10, 4)) * ([1, 1, 3, 0.1] if i < 50 else [3, 0.1, 1, 1])
            ).astype("f4")
        }
        for i in range(100)
    ]
    whole = observed(model, feeds)
    monkeypatch.setattr(observe, "GRAM_ROWS", 250)
    part = observed(model, feeds)
    assert whole.gram is not None
    assert part.gram is not None
    assert part.rows == whole.rows == 1000
    assert np.trace(part.gram) == pytest.approx(1000 * 4, rel=1e-5)
    np.testing.assert_allclose(np.diag(part.gram), np.diag(whole.gram), rtol=0.15)
    np.testing.assert_array_equal(part.high, whole.high)


def test_a_token_of_zeros_has_a_size_to_divide_by() -> None:
    assert token_size(np.array([[0, 0], [3, 4]], np.float32)).ravel() == pytest.approx(
        [1, np.sqrt(12.5)]
    )
