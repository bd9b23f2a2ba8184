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
from edgetfm.search.metric import BoundMetric
from tests.conftest import Exported

ONE = Budget.parse("1%")


def bound(reference: float, *, higher: bool = True) -> BoundMetric:
    return BoundMetric("metric", lambda run: 0.0, reference, higher)


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
    assert bound(reference, higher=higher).use(value, ONE) == pytest.approx(use)


def test_without_a_share_in_the_budget_a_metric_binds_nothing() -> None:
    assert bound(0.8).use(0.1, Budget.parse("cosine:0.99")) == 0.0


def test_a_rung_misses_beyond_the_share_and_says_by_how_much() -> None:
    made = BoundMetric("accuracy", lambda run: 0.7, 0.8, items=10)
    rung = made.rung("int8", lambda feeds: feeds, ONE)
    assert not rung.passed
    assert "accuracy 0.7 loses 12.50% of fp32's 0.8" in rung.missed[0]
    assert rung.metric["items"] == 10
    assert made.rung("int8", lambda feeds: feeds, Budget.parse("cosine:0.9")).passed


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
