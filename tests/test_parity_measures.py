"""Measures say how far two answers are apart; NaN, and nothing at all, pass no bound."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgetfm.budget import Budget
from edgetfm.errors import InputError, ParityError
from edgetfm.ledger import Ledger, rung
from edgetfm.parity import HIGHER_IS_BETTER, Comparison, Measures, cosine
from edgetfm.signature import Array
from edgetfm.task import Output
from edgetfm.tasks import TASKS

LOGITS = Output("logits", "logits")
TOKEN_LOGITS = Output("logits", "logits", per_token=True)
HIDDEN = Output("last_hidden_state", "hidden", per_token=True)
EMBEDDING = Output("embedding", "embedding")
SPAN = Output("start_logits", "span")
ALL = (LOGITS, TOKEN_LOGITS, HIDDEN, EMBEDDING, SPAN)

numbers = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)
matrices = arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(2, 5)), elements=numbers)


def measured(output: Output, got: Array, wanted: Array, mask: Array | None = None) -> Measures:
    return (
        Comparison((output,))
        .add({output.name: got}, {output.name: wanted}, mask)
        .measures()[output.name]
    )


@given(matrices, st.sampled_from((LOGITS, EMBEDDING, SPAN)))
def test_equal_answers_agree_in_everything(values: Array, output: Output) -> None:
    found = measured(output, values, values.copy())
    assert found.rows == len(values)
    assert found.max_abs == found.mean_abs == found.max_error == 0.0
    assert found.cosine == pytest.approx(1.0, abs=1e-12)
    assert found.worst_cosine == pytest.approx(1.0, abs=1e-12)
    if output.kind != "embedding":
        assert found.agreement == 1.0
        assert found.kl == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("wrong", ["got", "wanted"])
@pytest.mark.parametrize("output", ALL, ids=lambda o: f"{o.kind}{o.per_token}")
def test_a_number_that_is_not_finite_passes_no_budget(
    bad: float, wrong: str, output: Output
) -> None:
    """Not even where the largest entry happens to stand at the same place."""
    shape = (400, 3, 4) if output.per_token else (400, 4)
    got = np.tile(np.array([3.0, 1.0, 0.0, 2.0]), (*shape[:-1], 1))
    wanted = got.copy()
    (got if wrong == "got" else wanted)[(7,) + (0,) * (len(shape) - 1)] = bad
    mask = np.ones(shape[:2], np.int64) if output.per_token or output.kind == "span" else None
    found = measured(output, got, wanted, mask)
    for name, higher in HIGHER_IS_BETTER.items():
        value = getattr(found, name)
        bound = -1.0 if higher else 1e300
        if value is not None and name != "cosine":
            assert Budget(((name, bound),)).misses(found), name
    assert Budget((("cosine", -1.0),)).misses(found)


@given(matrices, matrices)
def test_nan_anywhere_in_the_answer_fails_its_rung(wanted: Array, other: Array) -> None:
    got = wanted.copy()
    got.flat[other.size % got.size] = np.nan
    comparison = Comparison((LOGITS,)).add({"logits": got}, {"logits": wanted})
    for name, higher in HIGHER_IS_BETTER.items():
        assert not rung("a", "b", comparison, bound=f"{name}:{-1 if higher else 1e300}").passed


@given(st.integers(1, 4), st.integers(1, 6), st.data())
def test_padding_counts_nowhere(batch: int, sequence: int, data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, sequence), min_size=batch, max_size=batch))
    mask = (np.arange(sequence) < np.array(lengths)[:, None]).astype(np.int64)
    random = np.random.default_rng(0)
    for output in (TOKEN_LOGITS, HIDDEN, SPAN):
        shape = (batch, sequence) if output is SPAN else (batch, sequence, 3)
        wanted = random.normal(size=shape)
        got = wanted + 0.01 * random.normal(size=shape)
        clean = measured(output, got, wanted, mask)
        for strange in (np.nan, 1e30, -1e30):
            spoiled = got.copy()
            spoiled[mask == 0] = strange
            assert measured(output, spoiled, wanted, mask) == clean
        assert clean.rows == (batch if output is SPAN else int(mask.sum()))


def test_a_span_is_not_flattered_by_its_padding() -> None:
    """Cosine and mean error are those of the text alone, however much padding follows it."""
    got, wanted = np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])
    short = measured(SPAN, got, wanted, np.ones((1, 2), np.int64))
    padded = [np.pad(x, ((0, 0), (0, 98))) for x in (got, wanted)]
    mask = np.array([[1, 1] + [0] * 98])
    long = measured(SPAN, *padded, mask)
    assert short.cosine == long.cosine == 0.0
    assert short.mean_abs == long.mean_abs == 1.0


def test_measures_of_a_known_case() -> None:
    wanted = np.array([[3.0, 4.0], [0.0, 2.0]])
    got = np.array([[3.0, 4.5], [2.0, 0.0]])
    found = measured(LOGITS, got, wanted)
    assert (found.rows, found.max_abs, found.mean_abs) == (2, 2.0, 4.5 / 4)
    assert found.max_error == 2.0 / 4.0
    assert found.worst_cosine == 0.0
    assert found.agreement == 0.5
    first = 27.0 / (5.0 * math.hypot(3.0, 4.5))
    assert found.cosine == pytest.approx(first / 2)
    assert found.kl is not None
    # The second row's probabilities are swapped: KL = (p - q) * log(p / q) = 2 * tanh(1).
    p = np.exp(wanted[0]) / np.exp(wanted[0]).sum()
    q = np.exp(got[0]) / np.exp(got[0]).sum()
    assert found.kl == pytest.approx(((p * np.log(p / q)).sum() + 2 * math.tanh(1.0)) / 2)


def test_a_single_score_agrees_if_it_is_near() -> None:
    wanted = np.array([[0.0], [10.0], [10.0], [-10.0]])
    got = np.array([[0.04], [10.4], [11.0], [10.0]])
    found = measured(LOGITS, got, wanted)
    assert found.agreement == 0.5
    assert found.kl is None


def test_pieces_measure_as_the_whole_does(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    wanted = random.normal(size=(50, 7))
    got = wanted + random.normal(size=wanted.shape)
    whole = measured(LOGITS, got, wanted)
    monkeypatch.setattr("edgetfm.parity._CHUNK", 20)
    for name, value in measured(LOGITS, got, wanted).to_json().items():
        assert value == pytest.approx(getattr(whole, name), rel=1e-12)
    comparison = Comparison((LOGITS,))
    for i in range(0, 50, 13):
        comparison.add({"logits": got[i : i + 13]}, {"logits": wanted[i : i + 13]})
    for name, value in comparison.measures()["logits"].to_json().items():
        assert value == pytest.approx(getattr(whole, name), rel=1e-12)


def test_cosine_of_zero_rows() -> None:
    zero, one = np.zeros((1, 3)), np.ones((1, 3))
    assert cosine(zero, zero) == 1.0
    assert cosine(zero, one) == 0.0


@given(matrices, st.floats(1e-3, 1e3))
def test_cosine_knows_no_length(values: Array, factor: float) -> None:
    rows = values.astype(np.float64)
    rows = rows[rows.any(-1)]
    np.testing.assert_allclose(cosine(rows, rows * factor), 1.0, rtol=1e-12)
    np.testing.assert_allclose(cosine(rows, -rows * factor), -1.0, rtol=1e-12)


def test_other_shapes_and_missing_outputs_are_said() -> None:
    comparison = Comparison((TOKEN_LOGITS,))
    wanted = np.zeros((2, 3, 4))
    mask = np.ones((2, 3), np.int64)
    with pytest.raises(ParityError, match=r"logits has shape \(2, 2, 4\), expected") as caught:
        comparison.add({"logits": wanted[:, :2]}, {"logits": wanted}, mask)
    assert caught.value.exit_code == 3
    with pytest.raises(ParityError, match="the answer has no logits; it has other"):
        comparison.add({"other": wanted}, {"logits": wanted}, mask)


# --- budgets ------------------------------------------------------------------------------------

bounds = st.one_of(
    st.tuples(
        st.sampled_from([n for n, higher in HIGHER_IS_BETTER.items() if higher]),
        st.floats(-1.0, 1.0),
    ),
    st.tuples(
        st.sampled_from([n for n, higher in HIGHER_IS_BETTER.items() if not higher]),
        st.floats(0.0, 1e300),
    ),
)


@given(st.lists(bounds, min_size=1, max_size=4))
def test_a_budget_is_written_and_read_without_loss(parts: list[tuple[str, float]]) -> None:
    budget = Budget(tuple(parts))
    assert Budget.parse(str(budget)) == budget


def test_the_budgets_of_all_tasks_are_budgets() -> None:
    for task in TASKS.values():
        assert str(Budget.parse(task.budget)) == task.budget


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "cosine",
            "cosine:",
            "cosine:x",
            "cosine:nan",
            "cosine:inf",
            "sinus:1",
            "x%",
            "100%",
            "-1%",
            "nan%",
        ),
        *("cosine:0.9,", "cosine=0.9", "cosine:99.5", "max_abs:-1"),
    ],
)
def test_what_is_no_budget_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"budget|bound"):
        Budget.parse(text)


def test_a_bound_that_is_just_met_holds() -> None:
    found = Measures(1, 0.5, 0.5, 0.5, 0.75, 0.75)
    assert Budget.parse("max_abs:0.5,cosine:0.75").misses(found) == []
    assert Budget.parse("max_abs:0.49, cosine:0.76").misses(found) == [
        "max_abs 0.5 > 0.49",
        "cosine 0.75 < 0.76",
    ]


# --- pictures -----------------------------------------------------------------------------------

BOXES = Output("pred_boxes", "boxes", per="query")
MAP = Output("predicted_depth", "map")
PIXELS = Output("logits", "logits", per="pixel")


@given(
    arrays(np.float64, (4,), elements=st.floats(0.125, 1)),
    arrays(np.float64, (4,), elements=st.floats(0.125, 1)),
)
def test_boxes_overlap_by_the_area_they_share(one: Array, other: Array) -> None:
    got, wanted = one[None, None], other[None, None]
    found = measured(BOXES, got, wanted).iou
    assert found is not None
    sides = [
        max(
            0.0,
            min(one[i] + one[i + 2] / 2, other[i] + other[i + 2] / 2)
            - max(one[i] - one[i + 2] / 2, other[i] - other[i + 2] / 2),
        )
        for i in (0, 1)
    ]
    shared = sides[0] * sides[1]
    whole = one[2] * one[3] + other[2] * other[3] - shared
    assert found == pytest.approx(shared / whole, abs=1e-9)
    assert measured(BOXES, wanted, wanted).iou == pytest.approx(1.0)


def test_boxes_that_cover_nothing_overlap_where_they_are_equal() -> None:
    nothing = np.zeros((1, 1, 4))
    assert measured(BOXES, nothing, nothing).iou == 1.0
    assert measured(BOXES, nothing + np.array([0.5, 0, 0, 0]), nothing).iou == 0.0


def test_a_map_is_off_by_its_error_beside_its_mean() -> None:
    depth = np.full((2, 3, 5), 4.0)
    assert measured(MAP, depth * 1.25, depth).relative == pytest.approx(0.25)
    assert measured(MAP, depth * 0, depth * 0).relative == 0.0
    assert measured(MAP, depth, depth * 0).relative == float("inf")


def test_every_pixel_has_a_class_of_its_own() -> None:
    logits = np.zeros((1, 3, 2, 2))
    logits[:, 1] = 1.0
    other = logits.copy()
    other[0, 2, 0, 1] = 2.0
    found = measured(PIXELS, other, logits)
    assert (found.rows, found.agreement) == (4, 0.75)


@pytest.mark.parametrize("output", [BOXES, MAP, PIXELS], ids=lambda o: o.kind)
def test_no_bound_on_pictures_holds_what_is_not_finite(output: Output) -> None:
    shape = {"boxes": (1, 2, 4), "map": (1, 3, 3), "logits": (1, 2, 3, 3)}[output.kind]
    wanted, got = np.ones(shape), np.ones(shape)
    got[(0,) * got.ndim] = np.nan
    found = measured(output, got, wanted)
    name = {"boxes": "iou", "map": "relative", "logits": "agreement"}[output.kind]
    bound = 0.0 if HIGHER_IS_BETTER[name] else 1e9
    assert Budget(((name, bound),)).misses(found)


# --- rungs --------------------------------------------------------------------------------------


def compared(*outputs: Output, error: float = 0.0) -> Comparison:
    values = np.random.default_rng(2).normal(size=(2, 3, 4))
    feeds = {o.name: values if o.per_token else values[:, 0] for o in outputs}
    wrong = {name: array + error for name, array in feeds.items()}
    return Comparison(outputs).add(wrong, feeds, np.ones((2, 3), np.int64))


def test_a_rung_holds_its_bound_on_every_output_or_on_one() -> None:
    comparison = compared(HIDDEN, EMBEDDING, error=0.1)
    every = rung("a", "b", comparison, bound="max_abs:0.05")
    assert [m.split(":")[0] for m in every.missed] == ["last_hidden_state", "embedding"]
    only = rung("a", "b", comparison, bound="max_abs:0.05", bound_on="embedding")
    assert len(only.missed) == 1
    both = rung("a", "b", comparison, bound="max_abs:0.05", bound_on="embedding,last_hidden_state")
    assert both.missed == every.missed
    assert rung("a", "b", comparison, bound="max_abs:0.2").passed
    assert rung("a", "b", comparison).passed


def test_a_bound_that_nothing_was_held_to_is_missed() -> None:
    empty = Comparison((EMBEDDING,))
    assert rung("a", "b", empty, bound="cosine:0.9").missed == ("embedding: nothing was compared",)
    nothing = Comparison((HIDDEN,)).add(
        {"last_hidden_state": np.zeros((1, 2, 3))},
        {"last_hidden_state": np.zeros((1, 2, 3))},
        np.zeros((1, 2), np.int64),
    )
    assert not rung("a", "b", nothing, bound="max_error:1e-5").passed
    assert not rung("a", "b", compared(EMBEDDING), bound="cosine:0.9", bound_on="other").passed
    assert not rung("a", "b", compared(EMBEDDING), bound="agreement:0.9").passed


def test_a_ledger_passes_when_it_has_rungs_and_all_hold() -> None:
    good = rung("a", "b", compared(EMBEDDING), bound="max_abs:1")
    bad = rung("c", "a", compared(EMBEDDING, error=2.0), bound="max_abs:1", note="node 7")
    assert not Ledger().passed
    assert Ledger([good]).passed
    ledger = Ledger([good, bad])
    assert not ledger.passed
    assert ledger.failures == ["c against a: embedding: max_abs 2 > 1 (node 7)"]


def test_a_ledger_is_json_even_where_a_measure_is_nan() -> None:
    found = rung(
        "a",
        "b",
        Comparison((LOGITS,)).add({"logits": np.full((1, 2), np.nan)}, {"logits": np.ones((1, 2))}),
        bound="agreement:0.99",
    )
    text = json.dumps(Ledger([found]).to_json(), allow_nan=False)
    read = json.loads(text)
    assert read["passed"] is False
    assert read["rungs"][0]["measures"]["logits"]["agreement"] == "nan"


def test_a_budget_may_be_a_share_of_the_metric() -> None:
    budget = Budget.parse("1.5%,cosine:0.99")
    assert budget.drop == pytest.approx(0.015)
    assert budget.of_answers == "cosine:0.99"
    assert str(budget) == "cosine:0.99,1.5%"
    assert Budget.parse(str(budget)) == budget
    assert Budget.parse("1%").of_answers == ""


def test_use_says_how_much_of_a_budget_is_used_up() -> None:
    budget = Budget.parse("cosine:0.995,worst_cosine:0.99")
    half = Measures(1, 0.0, 0.0, 0.0, 0.9975, 0.9975)
    assert budget.use([half]) == pytest.approx(0.5)
    assert budget.use([half, Measures(1, 0.0, 0.0, 0.0, 1.0, 0.98)]) == pytest.approx(2.0)
    assert budget.use([Measures(1, 0.0, 0.0, 0.0, float("nan"), 1.0)]) == float("inf")
    assert Budget.parse("max_abs:0").use([Measures(1, 0.1, 0.1, 0.1, 1.0, 1.0)]) == float("inf")
    assert Budget.parse("1%").use([half]) == 0.0


NEXT = (Output("logits", "logits", per_token=True, of_next=True),)


def test_perplexity_is_of_the_tokens_that_follow() -> None:
    random = np.random.default_rng(5)
    wanted, got = (random.normal(size=(2, 6, 11)).astype(np.float32) for _ in range(2))
    tokens = random.integers(0, 11, (2, 6))
    mask = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])

    def surprise(logits: np.ndarray) -> float:
        chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        pairs = [(0, i) for i in range(5)] + [(1, i) for i in range(2)]
        return float(np.mean([-np.log(chances[b, i, tokens[b, i + 1]]) for b, i in pairs]))

    comparison = Comparison(NEXT).add({"logits": got}, {"logits": wanted}, mask, tokens)
    rise = np.exp(surprise(got) - surprise(wanted)) - 1
    assert comparison.measures()["logits"].perplexity == pytest.approx(rise, rel=1e-4)


def test_perplexity_needs_a_token_that_follows() -> None:
    logits = {"logits": np.zeros((2, 1, 5), np.float32)}
    one = np.ones((2, 1), np.int64)
    assert Comparison(NEXT).add(logits, logits, one, one).measures()["logits"].perplexity is None
    assert Comparison(NEXT).add(logits, logits, one).measures()["logits"].perplexity is None


def test_a_better_perplexity_uses_nothing_of_the_budget() -> None:
    budget = Budget.parse("perplexity:0.01")
    better = replace(SAME, perplexity=-0.3)
    worse = replace(SAME, perplexity=0.02)
    assert (budget.use([better]), budget.misses(better)) == (0.0, [])
    assert budget.use([worse]) == pytest.approx(2.0)
    assert budget.misses(worse) == ["perplexity 0.02 > 0.01"]


SAME = Measures(1, 0.0, 0.0, 0.0, 1.0, 1.0)


@given(seed=st.integers(0, 2**32 - 1), equal=st.lists(st.booleans(), min_size=1, max_size=6))
def test_rows_that_are_equal_count_as_all_others_do(seed: int, equal: list[bool]) -> None:
    """They are not computed; what is measured is what the definitions say of every row."""
    random = np.random.default_rng(seed)
    wanted = random.standard_normal((1, len(equal), 5)).astype(np.float32)
    noise = random.standard_normal(wanted.shape).astype(np.float32)
    got = np.where(np.array(equal)[None, :, None], wanted, wanted + noise)
    ids = random.integers(0, 5, (1, len(equal)))
    found = Comparison(TASKS["text-generation"].outputs)
    found.add({"logits": got}, {"logits": wanted}, np.ones_like(ids), ids)
    measured = found.measures()["logits"]
    g, w = got[0].astype(np.float64), wanted[0].astype(np.float64)
    p, q = (np.log(np.exp(a) / np.exp(a).sum(-1, keepdims=True)) for a in (w, g))
    norms = np.linalg.norm(g, axis=-1) * np.linalg.norm(w, axis=-1)
    cosines = (g * w).sum(-1) / norms
    following = ids[0, 1:]
    lost = (p - q)[np.arange(len(following)), following]
    assert measured.rows == len(equal)
    assert measured.max_abs == pytest.approx(np.abs(g - w).max())
    assert measured.mean_abs == pytest.approx(np.abs(g - w).mean())
    assert measured.max_error == pytest.approx(np.abs(g - w).max() / max(1, np.abs(w).max()))
    assert measured.cosine == pytest.approx(cosines.mean())
    assert measured.worst_cosine == pytest.approx(cosines.min())
    assert measured.agreement == pytest.approx((g.argmax(-1) == w.argmax(-1)).mean())
    assert measured.kl == pytest.approx((np.exp(p) * (p - q)).sum(-1).mean())
    if len(following):
        assert measured.perplexity == pytest.approx(np.expm1(lost.mean()))
