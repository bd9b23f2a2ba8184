"""The task's own metric as a bound: measured on labelled data of fp32 and of every candidate."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgetfm.budget import Budget, is_bound
from edgetfm.errors import DataError, InputError
from edgetfm.ledger import Rung
from edgetfm.parity import HIGHER_IS_BETTER, MEASURED
from edgetfm.proof import Run, Subject, session_run
from edgetfm.runtime.preprocess import Preprocessor
from edgetfm.scoring.evaluation import UserMetric, read_eval
from edgetfm.scoring.labelled import LabelledData
from edgetfm.scoring.metrics import drop
from edgetfm.search.draft import Draft
from edgetfm.search.goal import Goal
from edgetfm.signature import Feeds


@dataclass(frozen=True)
class BoundMetric:
    """A metric, its value for fp32, and how it is measured for anything else.

    name: as people call it, 'accuracy'. items: how many labelled items decide, 0 if only the user
    knows. fingerprint: tells the data from other data. tested: measures the half of the data that
    nothing was chosen by, where there is one; test_reference: its value for fp32; test_items: how
    many decide there.
    """

    name: str
    measure: Callable[[Run], float]
    reference: float
    higher_is_better: bool = True
    items: int = 0
    fingerprint: str = ""
    tested: Callable[[Run], float] | None = None
    test_reference: float = math.nan
    test_items: int = 0

    def lost(self, value: float, reference: float | None = None) -> float:
        """By what share of fp32's the metric is worse; negative if it is better."""
        before = self.reference if reference is None else reference
        return drop(before, value, self.higher_is_better)

    def use(self, value: float, budget: Budget) -> float:
        """How much of the budget a value uses up; 0 if it binds no metric."""
        if budget.drop is None:
            return 0.0
        lost = self.lost(value)
        if lost <= 0:
            return 0.0
        return lost / budget.drop if budget.drop else math.inf

    def rung(self, name: str, run: Run, budget: Budget) -> Rung:
        """The metric of a variant against fp32's, bound if the budget says so."""
        return self._rung(name, self.measure(run), self.reference, self.items, budget)

    def test_rung(self, name: str, run: Run, budget: Budget) -> Rung | None:
        """The same on the half that nothing was chosen by; None if there is none."""
        if self.tested is None:
            return None
        value, items = self.tested(run), self.test_items
        return self._rung(f"{name}, test half", value, self.test_reference, items, budget)

    def _rung(self, name: str, value: float, reference: float, items: int, budget: Budget) -> Rung:
        lost = self.lost(value, reference)
        metric: dict[str, Any] = {
            "name": self.name,
            "value": value,
            "reference": reference,
            "items": items,
        }
        if math.isfinite(lost):  # JSON has no infinity
            metric["lost"] = lost
        missed: tuple[str, ...] = ()
        if budget.drop is not None and lost > budget.drop:
            missed = (f"{self.name} {value:.4g} loses {lost:.2%} of fp32's {reference:.4g}",)
        bound = "" if budget.drop is None else str(Budget((), budget.drop))
        return Rung(f"{name} {self.name}", "fp32", {}, bound, "", missed, metric=metric)

    def of_reference(self) -> dict[str, Any]:
        """fp32's own row."""
        return {"name": self.name, "value": self.reference, "items": self.items}


def read_metric(
    goal: Goal, subject: Subject, labels: tuple[str, ...]
) -> LabelledData | UserMetric | None:
    """What `goal.evaluate` names, None if nothing; read before any work is done.

    Raises InputError too for a budget in a measure that the task's outputs do not have.
    """
    bound = [o for o in subject.task.outputs if is_bound(o.name, subject.judged_output)]
    if goal.max_drop:
        kinds = {o.kind for o in bound}
        known = [n for n in HIGHER_IS_BETTER if kinds & {*MEASURED.get(n, kinds)}]
        asked = {name for name, _ in Budget.parse(goal.max_drop).bounds}
        if unfit := sorted(asked - {*known}):
            raise InputError(
                f"{' and '.join(unfit)} cannot be measured on what {subject.task.name} gives, "
                f"{', '.join(o.name for o in bound)}: bind {', '.join(known)}"
            )
    return None if goal.evaluate is None else read_eval(goal.evaluate, subject.task, labels)


def bind_metric(
    draft: Draft, data: LabelledData | UserMetric | None, preprocessor: Preprocessor
) -> BoundMetric | None:
    """The metric that labelled data gives, else accuracy on labels of the evidence, else None.

    Half of the data is what candidates are chosen by, the other half what the choice is tested on.
    """
    if data is None:
        return _of_sample(draft)
    judge, test = data.split()
    allowed = Budget.parse(draft.budget).drop
    if isinstance(judge, LabelledData) and allowed and judge.count * allowed < 1:
        draft.notes.append(
            f"{judge.count} labelled items decide: one of them is {1 / judge.count:.1%} of the "
            f"whole, more than the {allowed:.1%} that may be lost"
        )
    config = _config(draft)
    draft.progress(f"measuring {data.metric_name} of fp32", 0, 0)
    fp32 = session_run(draft.path("fp32"))
    reference = judge.metric(fp32, preprocessor, config)
    halves = isinstance(data, LabelledData)
    after = test.metric(fp32, preprocessor, config) if halves else math.nan
    for value in (reference, after) if halves else (reference,):
        if not math.isfinite(value) or (value == 0 and allowed is not None):
            raise DataError(
                f"the {data.metric_name} of fp32 on {data.name} is {value}: nothing can be a share "
                "of it"
            )
    if not halves and allowed is not None:
        draft.notes.append(
            f"{data.name} measures the same for choosing and for testing: keep data of your own "
            "apart to test what ships"
        )
    return BoundMetric(
        data.metric_name,
        lambda run: judge.metric(run, preprocessor, config),
        reference,
        data.higher_is_better,
        judge.count if isinstance(judge, LabelledData) else 0,
        data.fingerprint if isinstance(data, LabelledData) else data.name,
        (lambda run: test.metric(run, preprocessor, config)) if halves else None,
        after,
        test.count if isinstance(test, LabelledData) else 0,
    )


def _config(draft: Draft) -> dict[str, Any]:
    """The model's config.json, where it has one."""
    path = draft.writer.path("config.json") if "config.json" in draft.writer.entries else None
    return json.loads(path.read_text(encoding="utf-8")) if path else {}


def _of_sample(draft: Draft) -> BoundMetric | None:
    """Accuracy on the labelled sample of a checkpoint; the oracle's own is what is compared."""
    labels, judged = draft.evidence.labels, draft.evidence.judged
    if labels is None:
        return None

    def accuracy(answers: Iterable[Feeds]) -> float:
        found = np.concatenate([answer["logits"].argmax(-1) for answer in answers])
        return float((found == labels).mean())

    return BoundMetric(
        "accuracy",
        lambda run: accuracy(run(feeds) for feeds in judged),
        accuracy(draft.judged),
        items=len(labels),
    )
