"""The task's own metric as a bound: measured on labelled data of fp32 and of every candidate."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from edgetfm.budget import Budget, is_bound
from edgetfm.bundle import Bundle
from edgetfm.errors import DataError, InputError
from edgetfm.ledger import Rung
from edgetfm.manifest import Manifest
from edgetfm.parity import HIGHER_IS_BETTER, MEASURED
from edgetfm.proof import Run, Subject
from edgetfm.runtime.encoder_decoder import EncoderDecoder, open_graph
from edgetfm.runtime.model import Model
from edgetfm.runtime.pipelines import Pipeline
from edgetfm.runtime.preprocess import Preprocessor
from edgetfm.runtime.session import Session, Settings, without_spinning
from edgetfm.runtime.tasks import Asked
from edgetfm.scoring.evaluation import UserMetric, read_eval
from edgetfm.scoring.labelled import LabelledData, pipeline_of
from edgetfm.scoring.metrics import drop
from edgetfm.scoring.score import Score
from edgetfm.search.draft import Draft
from edgetfm.search.goal import Goal
from edgetfm.signature import Feeds
from edgetfm.stages import Graph

Asks = Run | Session | EncoderDecoder
"""What can be measured: a graph that is open, or a function that answers as one does."""

NONE = Score(math.nan)
"""Of what was not measured."""

SURE = 2
"""Standard errors: a difference within them may as well be none."""

STRETCH = 3
"""How many times what was asked two standard errors may allow: few items are sure of nothing."""


@dataclass(frozen=True)
class Allowed:
    """What share of fp32's metric may be lost where `asked` was: that, or two standard errors.

    unsure: SURE standard errors of the difference on the same items, as a share of fp32's metric.
    They allow at most STRETCH times what was asked, and nothing where nothing may be lost.
    """

    asked: float
    unsure: float

    @classmethod
    def of(cls, asked: float, error: float | None, reference: float) -> Self:
        """Of a standard error, None where there is none; to four digits, as a bound says it."""
        unsure = SURE * error / abs(reference) if error and reference else 0.0
        return cls(asked, float(f"{unsure:.4g}"))

    @property
    def share(self) -> float:
        """The share that may be lost."""
        return max(self.asked, min(self.unsure, STRETCH * self.asked))

    def __str__(self) -> str:
        if self.share == self.asked:
            return f"where {self.asked:.2%} may be lost"
        if self.unsure <= STRETCH * self.asked:
            return f"where two standard errors of the difference, {self.unsure:.2%}, may be lost"
        more = math.ceil((self.unsure / self.asked) ** 2)
        return (
            f"where {STRETCH} times {self.asked:.2%} may be lost: two standard errors are "
            f"{self.unsure:.2%}, and about {more} times as many items would tell {self.asked:.2%}"
        )


@dataclass(frozen=True)
class BoundMetric:
    """A metric, its value for fp32, and how it is measured for anything else.

    name: as people call it, 'accuracy'. items: how many labelled items decide, 0 if only the user
    knows. fingerprint: tells the data from other data. tested: measures the half of the data that
    nothing was chosen by, where there is one; test_reference: its value for fp32; test_items: how
    many decide there.
    """

    name: str
    measure: Callable[[Asks], Score]
    reference: Score
    higher_is_better: bool = True
    items: int = 0
    fingerprint: str = ""
    tested: Callable[[Asks], Score] | None = None
    test_reference: Score = NONE
    test_items: int = 0

    def use(self, found: Score, budget: Budget) -> float:
        """How much of the budget a score uses up; 0 if it binds no metric."""
        return used(self._rung("", found, self.reference, self.items, budget), budget)

    def rung(self, name: str, asks: Asks, budget: Budget) -> Rung:
        """The metric of a variant against fp32's, bound if the budget says so."""
        return self._rung(name, self.measure(asks), self.reference, self.items, budget)

    def test_rung(self, name: str, asks: Asks, budget: Budget) -> Rung | None:
        """The same on the half that nothing was chosen by; None if there is none."""
        if self.tested is None:
            return None
        found, items = self.tested(asks), self.test_items
        return self._rung(f"{name}, test half", found, self.test_reference, items, budget)

    def _rung(self, name: str, found: Score, fp32: Score, items: int, budget: Budget) -> Rung:
        better = self.higher_is_better
        return metric_rung(name, self.name, found, fp32, items, budget, higher_is_better=better)

    def of_reference(self) -> dict[str, Any]:
        """fp32's own row."""
        return {"name": self.name, "value": self.reference.value, "items": self.items}


def metric_rung(
    name: str,
    metric: str,
    found: Score,
    fp32: Score | None,
    items: int,
    budget: Budget,
    *,
    higher_is_better: bool,
) -> Rung:
    """The metric of a variant beside fp32's on the same items, bound if the budget says so.

    fp32: None where there is nothing to compare with: the rung is information then. Its bound is
    what may be lost, which is more than was asked where few items decide.
    """
    said: dict[str, Any] = {"name": metric, "value": found.value, "items": items}
    if fp32 is None:
        return Rung(f"{name} {metric}", "labelled data", {}, metric=said)
    said["reference"] = fp32.value
    lost = drop(fp32.value, found.value, higher_is_better)
    if math.isfinite(lost):  # JSON has no infinity
        said["lost"] = lost
    note = ""
    if (error := found.error_beside(fp32)) is not None:
        said["standard_error"] = error
        note = f"the standard error of the difference is {error:.2g}"
    if budget.drop is None:
        return Rung(f"{name} {metric}", "fp32", {}, note=note, metric=said)
    allowed = Allowed.of(budget.drop, error, fp32.value)
    said["allowed"] = allowed.share
    says = f"{metric} {found.value:.4g} loses {lost:.2%} of fp32's {fp32.value:.4g}"
    missed: tuple[str, ...] = ()
    if not lost <= allowed.share:
        missed = (f"{says}, {allowed}",)
    elif lost > budget.drop:
        note = f"{says}, {allowed}; {note}"
    bound = str(Budget((), allowed.share))
    return Rung(f"{name} {metric}", "fp32", {}, bound, "", missed, note, metric=said)


def used(rung: Rung, budget: Budget) -> float:
    """How much of the share that was asked a rung of `metric_rung` lost; 0 where none was.

    Standard errors do not count: what chooses among many by the loss, and is let lose more where
    the answers differ more, would choose by chance.
    """
    lost = rung.metric.get("lost", math.inf)
    if budget.drop is None or lost <= 0:
        return 0.0
    return lost / budget.drop if budget.drop else math.inf


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
    draft: Draft,
    data: LabelledData | UserMetric | None,
    preprocessor: Preprocessor,
    generation: Mapping[str, Any] | None = None,
) -> BoundMetric | None:
    """The metric that labelled data gives, else accuracy on labels of the evidence, else None.

    Half of the data is what candidates are chosen by, the other half what the choice is tested on.
    generation: the manifest's, of models that write.
    """
    if data is None:
        return _of_sample(draft)
    judge, test = data.split()
    allowed = Budget.parse(draft.budget).drop
    items = judge.count if isinstance(judge, LabelledData) else 0
    is_right_or_not = items and data.metric_name != "perplexity"
    if is_right_or_not and allowed and items * allowed < 1:
        draft.notes.append(
            f"{items} labelled items decide: one of them is {1 / items:.1%} of the whole, more "
            f"than the {allowed:.1%} that may be lost"
        )
    of = _pipelines(draft, data, preprocessor, generation or {})
    draft.progress(f"measuring {data.metric_name} of fp32", 0, 0)
    fp32 = of(asked(draft.path("fp32")))
    reference = judge.score(fp32)
    halves = isinstance(data, LabelledData)
    after = test.score(fp32) if halves else NONE
    del fp32
    for value in (reference.value, after.value) if halves else (reference.value,):
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
        lambda asks: judge.score(of(asks)),
        reference,
        data.higher_is_better,
        items,
        data.fingerprint if isinstance(data, LabelledData) else data.name,
        (lambda asks: test.score(of(asks))) if halves else None,
        after,
        test.count if isinstance(test, LabelledData) else 0,
    )


def asked(graph: Graph, settings: Settings | None = None) -> Session | EncoderDecoder:
    """A graph, or a pair of them, ready to be measured."""
    return open_graph(graph, settings=without_spinning(settings))


def _pipelines(
    draft: Draft,
    data: LabelledData | UserMetric,
    preprocessor: Preprocessor,
    generation: Mapping[str, Any],
) -> Callable[[Asks], Pipeline]:
    """What makes a pipeline of a graph; of one that writes as it will be in the bundle."""
    task, labels, config = data.task, data.labels, _config(draft)

    def of(asks: Asks) -> Pipeline:
        if not isinstance(asks, (Session, EncoderDecoder)):
            return pipeline_of(task, labels, asks, preprocessor, config)
        if not task.generates:
            return pipeline_of(task, labels, asks.run, preprocessor, config)
        files = draft.writer.entries
        manifest = Manifest(
            task.name, "", "", "fp32", draft.components, generation=dict(generation), files=files
        )
        model = Model(Bundle(draft.writer.staging, manifest), "fp32", asks)
        return Pipeline(task.name, Asked(model, preprocessor, labels, config))

    return of


def _config(draft: Draft) -> dict[str, Any]:
    """The model's config.json, where it has one."""
    path = draft.writer.path("config.json") if "config.json" in draft.writer.entries else None
    return json.loads(path.read_text(encoding="utf-8")) if path else {}


def _of_sample(draft: Draft) -> BoundMetric | None:
    """Accuracy on the labelled sample of a checkpoint; the oracle's own is what is compared."""
    labels, judged = draft.evidence.labels, draft.evidence.judged
    if labels is None:
        return None

    def accuracy(answers: Iterable[Feeds]) -> Score:
        found = np.concatenate([answer["logits"].argmax(-1) for answer in answers])
        return Score.mean(found == labels)

    def measure(asks: Asks) -> Score:
        run = asks.run if isinstance(asks, (Session, EncoderDecoder)) else asks
        return accuracy(run(feeds) for feeds in judged)

    return BoundMetric("accuracy", measure, accuracy(draft.judged), items=len(labels))
