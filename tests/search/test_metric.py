"""A budget may be a share of the task's own metric, and is held on data that chose nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from edgetfm import export_model
from edgetfm.budget import Budget
from edgetfm.bundle import open_bundle
from edgetfm.errors import BudgetError
from edgetfm.ledger import Rung
from edgetfm.quantize import RECIPES
from edgetfm.scoring.score import Score
from edgetfm.search.candidates import Candidate
from edgetfm.search.metric import BoundMetric, metric_rung, used
from tests.plain import Exported

ONE = Budget.parse("1%")


def bound(reference: float, *, higher: bool = True) -> BoundMetric:
    return BoundMetric("metric", lambda run: Score(0.0), Score(reference), higher)


@pytest.mark.parametrize(
    ("reference", "value", "higher", "use"),
    [
        (0.8, 0.8, True, 0.0),
        (0.8, 0.9, True, 0.0),
        (0.8, 0.796, True, 0.5),
        (0.8, 0.784, True, 2.0),
        (20.0, 20.1, False, 0.5),
        (20.0, 19.0, False, 0.0),
        (0.0, 0.0, True, 0.0),
        (0.0, -0.1, True, math.inf),
        (0.8, math.nan, True, math.inf),
    ],
)
def test_use_is_the_drop_relative_to_the_metric_of_fp32(
    reference: float, value: float, higher: bool, use: float
) -> None:
    assert bound(reference, higher=higher).use(Score(value), ONE) == pytest.approx(use)


def test_without_a_share_in_the_budget_a_metric_binds_nothing() -> None:
    assert bound(0.8).use(Score(0.1), Budget.parse("cosine:0.99")) == 0.0


def test_a_rung_misses_beyond_the_share_and_says_by_how_much() -> None:
    made = BoundMetric("accuracy", lambda run: Score(0.7), Score(0.8), items=10)
    rung = made.rung("int8", lambda feeds: feeds, ONE)
    assert not rung.passed
    assert "accuracy 0.7 loses 12.50% of fp32's 0.8" in rung.missed[0]
    assert rung.metric["items"] == 10
    assert made.rung("int8", lambda feeds: feeds, Budget.parse("cosine:0.9")).passed


def compared(items: int, lost: int, gained: int, budget: Budget) -> Rung:
    """fp32 is right on all but some of the items; int8 answers these few otherwise."""
    fp32 = [1.0] * (items - gained) + [0.0] * gained
    int8 = [0.0] * lost + [1.0] * (items - lost)
    scores = (Score.mean(int8), Score.mean(fp32))
    return metric_rung("int8", "accuracy", *scores, items, budget, higher_is_better=True)


def test_a_loss_within_two_standard_errors_may_as_well_be_chance() -> None:
    rung = compared(500, lost=13, gained=6, budget=ONE)
    assert rung.metric["lost"] > 0.014
    assert rung.metric["allowed"] == pytest.approx(
        2 * rung.metric["standard_error"] / 0.988, rel=1e-3
    )
    assert rung.passed
    assert "two standard errors of the difference, 1.7" in rung.note
    assert Budget.parse(rung.bound).drop == pytest.approx(rung.metric["allowed"])
    assert used(rung, ONE) == pytest.approx(rung.metric["lost"] / 0.01)
    assert not compared(500, lost=13, gained=0, budget=ONE).passed, "all items agree that it is"
    assert not compared(500, lost=13, gained=6, budget=Budget.parse("0%")).passed


def test_few_items_stretch_what_may_be_lost_to_three_times_that_and_no_further() -> None:
    rung = compared(20, lost=1, gained=0, budget=ONE)
    assert rung.metric["allowed"] == pytest.approx(0.03)
    assert "3 times 1.00% may be lost: two standard errors are 9" in rung.missed[0]
    assert "times as many items would tell 1.00%" in rung.missed[0]
    assert (rung.bound, used(rung, ONE)) == ("3%", pytest.approx(5.0))


def test_answers_that_flip_more_let_a_search_lose_no_more() -> None:
    few, many = compared(500, 4, 0, ONE), compared(500, 40, 32, ONE)
    assert few.passed
    assert many.passed
    assert Budget.parse(many.bound).drop == pytest.approx(0.03)
    assert used(few, ONE) == pytest.approx(0.8)
    assert used(many, ONE) > 1.6
    made = Candidate("int8", RECIPES["int8"], Path("absent.onnx"), {}, rungs=[many])
    made.use = used(many, ONE)
    assert made.inside
    made.room = 1.0
    assert not made.inside
    assert not made.holds


def test_one_percent_of_accuracy_is_held_on_the_half_that_chose_nothing(
    digits: tuple[Exported, Path], tmp_path: Path
) -> None:
    exported, pictures = digits
    made = export_model(
        exported.source,
        tmp_path / "out",
        quantize="auto",
        max_drop="1%",
        evaluate=str(pictures),
        prefer="size",
    )
    assert made.variant != "fp32"
    rungs = {r.name: r for r in made.ledger.rungs if r.metric}
    judged = rungs[f"{made.variant} accuracy"].metric
    tested = rungs[f"{made.variant}, test half accuracy"].metric
    for metric in (judged, tested):
        assert metric["value"] >= 0.99 * metric["reference"]
    assert judged["reference"] != tested["reference"]
    assert judged["items"] + tested["items"] == sum(1 for _ in pictures.rglob("*.png"))
    assert judged["items"] != tested["items"]
    saved = json.loads((made.path / "parity.json").read_text())
    assert [r["metric"] for r in saved["rungs"] if r["metric"]] == [judged, tested]
    assert open_bundle(made.path).manifest.budget == "1%"


def test_a_metric_of_the_users_own_can_stop_an_export(
    digits: tuple[Exported, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two answers that differ in the last bits are not the same to this user."""
    exported, pictures = digits
    picture = next(pictures.rglob("*.png"))
    (tmp_path / "strict.py").write_text(
        "seen = []\n"
        "def sameness(pipeline):\n"
        f"    score = pipeline({str(picture)!r})[0]['score']\n"
        "    seen.append(score)\n"
        "    return 1.0 - abs(score - seen[0])\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BudgetError, match="sameness") as caught:
        export_model(
            exported.source,
            tmp_path / "out",
            quantize="int8",
            max_drop="0%",
            evaluate="strict:sameness",
        )
    assert caught.value.exit_code == 3
    assert not (tmp_path / "out").exists()
