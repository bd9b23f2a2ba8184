"""Candidates: graphs made by a recipe, judged by the budget and timed, before one of them ships."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from edgetfm.budget import Budget
from edgetfm.errors import DeviceError, QuantizationError
from edgetfm.graphs import read_graph
from edgetfm.invariants import invariant_rungs
from edgetfm.ledger import Rung, rung
from edgetfm.parity import Measures
from edgetfm.proof import SMALL, answers_of, device_rung, side_by_side
from edgetfm.quantize import RECIPES, Recipe
from edgetfm.quantize.grids import kept_blocks
from edgetfm.quantize.plan import Memo
from edgetfm.quantize.recipes import for_decoders
from edgetfm.quantize.targets import TARGETS
from edgetfm.runtime.memory import return_freed
from edgetfm.runtime.tuning import choose_session
from edgetfm.search.draft import Draft
from edgetfm.search.metric import asked, used
from edgetfm.search.parts import Maker, feeds_of_parts
from edgetfm.signature import Feeds
from edgetfm.stages import MODEL, Graph, parts
from edgetfm.step_proof import variant_steps


@dataclass(frozen=True)
class Tried:
    """A variant that was made: its size, its loss, its latency relative to fp32, its facts.

    use: how much of the budget it uses up, 1 is all of it. metric: the task's own metric of fp32
    and of the variant, where there is labelled data. note: why it was tried.
    """

    name: str
    precision: str
    bytes: int
    measures: dict[str, Measures]
    missed: tuple[str, ...]
    use: float = 0.0
    latency: float | None = None
    spread: float | None = None
    metric: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    note: str = ""

    @property
    def inside(self) -> bool:
        """Whether it is inside the budget."""
        return not self.missed

    def to_json(self) -> dict[str, Any]:
        """The form it has in reports and on `--json`."""
        measures = {name: m.to_json() for name, m in self.measures.items()}
        use = self.use if self.use < float("inf") else None  # JSON has no infinity
        return asdict(self) | {"measures": measures, "inside": self.inside, "use": use}


@dataclass
class Candidate:
    """A graph in the folder of a search, and what was found out about it."""

    name: str
    recipe: Recipe
    path: Graph
    facts: dict[str, Any]
    note: str = ""
    room: float = math.inf
    settings: dict[str, Any] = field(default_factory=dict)
    rungs: list[Rung] = field(default_factory=list)
    use: float = 0.0
    metric: dict[str, Any] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """Its graph and weights."""
        files = parts(self.path).values()
        return sum(p.stat().st_size for f in files for p in f.parent.glob(f"{f.name}*"))

    @property
    def missed(self) -> tuple[str, ...]:
        """Every bound that does not hold, with its rung, and a budget used beyond the room."""
        missed = [f"{r.name} against {r.against}: {m}" for r in self.rungs for m in r.missed]
        if not missed and self.use > self.room:
            missed = [f"it uses {self.use:.0%} of the budget, {self.room:.0%} is left to it"]
        return tuple(missed)

    @property
    def inside(self) -> bool:
        """Whether every bound holds, with the room that was left to it."""
        return not self.missed

    @property
    def holds(self) -> bool:
        """Whether every bound holds, however narrowly; of what was searched for, the budget too."""
        within = self.use <= max(self.room, 1.0)
        return within and bool(self.rungs) and all(r.passed for r in self.rungs)


def recipe_called(name: str, draft: Draft) -> Recipe:
    """The recipe of that name, as it suits the model of a draft.

    A decoder whose weights come in such blocks keeps them, and a note says so.
    """
    recipe, task = RECIPES[name], draft.subject.task
    if not task.generates or task.seq2seq:
        return recipe
    path = draft.path("fp32")
    assert isinstance(path, Path)
    kept = kept_blocks(read_graph(path), recipe.precision)
    if kept is None:
        return for_decoders(recipe)
    others = f"; {len(kept.by_block)} that are not get 8 bits" if kept.by_block else ""
    note = f"{name}: weights that are in its blocks are repacked without a second rounding{others}"
    if note not in draft.notes:
        draft.notes.append(note)
    return kept


class Workshop:
    """Makes candidates for one draft in a folder of their own, judges them and times them."""

    def __init__(
        self,
        draft: Draft,
        folder: Path,
        targets: Sequence[str] = (),
        deadline: float = float("inf"),
        session: dict[str, Any] | None = None,
    ) -> None:
        """`targets`: CPU kinds that must get the same answers. `deadline`: a time of
        time.monotonic() after which nothing new is begun. `session`: the settings to judge under;
        None measures which are best.
        """
        self.draft = draft
        self.targets = tuple(targets)
        self._session = session
        self.candidates: list[Candidate] = []
        self._folder = folder
        self._deadline = deadline

    @cached_property
    def maker(self) -> Maker:
        """What makes graphs of the draft's, on what each of them takes."""
        graph = self.draft.path("fp32")
        feeds = feeds_of_parts(graph, self.draft.evidence.calibration)
        return Maker(graph, feeds, self.draft.progress)

    @property
    def memo(self) -> Memo:
        """What is known of the products of a model of one graph."""
        return self.maker.memos.setdefault(MODEL, Memo())

    def out_of_time(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() > self._deadline

    def make(
        self,
        name: str,
        recipe: Recipe,
        note: str = "",
        room: float = math.inf,
        *,
        last: bool = False,
    ) -> Candidate:
        """A graph by this recipe, cured for the targets, and judged.

        room: the share of the budget that it may use to be inside, whatever its bounds allow
        beyond; what was asked for has them alone. last: whether nothing else will be made, so that
        what was decided need not wait in memory for it. Raises QuantizationError if the recipe
        changes nothing, or if onnxruntime does not load or run what was made.
        """
        folder = self._folder / str(len(self.candidates))
        folder.mkdir(exist_ok=True)  # of one that was refused
        made = self.maker.make(
            recipe, folder, safe=any(TARGETS[name].saturates for name in self.targets)
        )
        if last:
            self.maker.memos.clear()
        if not (made.changed or recipe.keep_float or recipe.by_block):
            raise QuantizationError(
                f"{name} changes nothing in this graph: it has no matrix product by float32 "
                "weights, and convolutions stay as they are; ship fp32, or try fp16"
            )
        candidate = Candidate(name, made.recipe, made.graph, made.facts, note, room)
        self.candidates.append(candidate)
        try:
            self._judge(candidate)
        except DeviceError as error:
            raise QuantizationError(
                f"onnxruntime does not run the graph that the recipe '{recipe.name}' makes of "
                f"this model: {error}; try another precision, or auto"
            ) from error
        return candidate

    def _judge(self, candidate: Candidate) -> None:
        """Its answers against the oracle's; its invariants, if these are inside the budget."""
        draft, evidence = self.draft, self.draft.evidence
        subject, precision = draft.subject, candidate.recipe.precision
        draft.progress(f"comparing {candidate.name} with {subject.oracle}", 0, 0)
        if candidate.bytes > SMALL:
            return_freed(worth=0)
        candidate.settings = (
            choose_session(candidate.path, probe(evidence.cases))
            if self._session is None
            else dict(self._session)
        )
        answers = answers_of(
            candidate.path,
            [*evidence.judged, *evidence.cases],
            settings=candidate.settings,
            threads=2,
        )
        comparison = subject.compare(answers[: len(evidence.judged)], draft.judged, evidence.judged)
        budget = Budget.parse(draft.budget)
        judged = rung(
            precision,
            subject.oracle,
            comparison,
            bound=budget.of_answers,
            bound_on=subject.judged_output,
        )
        if subject.task.generates and not subject.task.seq2seq:
            tokens = sum(measures.rows for measures in judged.measures.values())
            judged = replace(judged, note=f"{tokens:,} tokens judge")
        candidate.rungs = [judged]
        candidate.use = draft.use(candidate.rungs[0].measures)
        self._measure_metric(candidate, budget)
        if not candidate.inside:
            return
        answered = answers[len(evidence.judged) :]
        works: list[Callable[[int], list[Rung]]] = [
            lambda _: self._invariants(candidate, budget, answered),
            lambda threads: [self._optimized(candidate, answered, threads)],
        ]
        if subject.task.generates:
            works = [
                *variant_steps(
                    subject,
                    candidate.path,
                    precision,
                    evidence.cases,
                    candidate.settings,
                    evidence.judged,
                    answers[: len(evidence.judged)],
                    draft.judged,
                    budget.of_answers,
                ),
                *works,
            ]
        found = side_by_side(candidate.path, *works)
        for rungs in reversed(found):
            candidate.rungs += rungs
        for drift in candidate.rungs[2:]:
            if drift.bound == budget.of_answers:
                candidate.use = max(candidate.use, draft.use(drift.measures))

    def _optimized(self, candidate: Candidate, answered: Sequence[Feeds], threads: int) -> Rung:
        """What onnxruntime's optimizer makes of the graph, against the graph as it is written.

        answered: the answers of the former to the cases.
        """
        draft, cases = self.draft, self.draft.evidence.cases
        subject, precision = draft.subject, candidate.recipe.precision
        asked = len(draft.truth)
        plain = answers_of(candidate.path, cases, optimize=False, threads=threads)
        # Of the graph as written: a fault of the optimizer must not widen its own bound.
        own = subject.compare(plain[:asked], draft.truth, cases[:asked]).measures()
        name, against = f"{precision} optimized", f"{precision} graph"
        compared = subject.compare(answered, plain, cases)
        return device_rung(precision, name, against, compared, own, subject.oracle)

    def _invariants(
        self, candidate: Candidate, budget: Budget, answered: Sequence[Feeds]
    ) -> list[Rung]:
        """Neighbours and threads changed around the cases, or around what was written.

        An encoder-decoder's cases have targets that are drawn at random; its budget is about what
        it writes. In int8, whose activations have one scale a tensor, it is held to the budget
        alone, as it is mostly asked, as well as in its batch. answered: its answers to the cases.
        """
        draft, evidence = self.draft, self.draft.evidence
        pairs = list(zip(evidence.judged, draft.judged, strict=True))
        written = [(f, a) for f, a in pairs if len(next(iter(f.values()))) > 1]
        is_int8 = candidate.recipe.precision == "int8"
        of_pairs = is_int8 and draft.subject.task.seq2seq and bool(written)
        return invariant_rungs(
            draft.subject,
            candidate.path,
            candidate.recipe.precision,
            [feeds for feeds, _ in written] if of_pairs else evidence.cases,
            candidate.settings,
            budget.of_answers,
            [answer for _, answer in written] if of_pairs else None,
            None if of_pairs else answered,
        )

    def _measure_metric(self, candidate: Candidate, budget: Budget) -> None:
        """The task's own metric, where there is labelled data, as a rung if the budget binds it."""
        if self.draft.metric is None:
            return
        model = asked(candidate.path, candidate.settings)
        found = self.draft.metric.rung(candidate.recipe.precision, model, budget)
        candidate.rungs.append(found)
        candidate.metric = dict(found.metric)
        candidate.use = max(candidate.use, used(found, budget))


def probe(cases: list[Feeds]) -> Feeds:
    """What latency is measured on: the longest case of batch 1."""
    single = [feeds for feeds in cases if next(iter(feeds.values())).shape[0] == 1]
    return max(single or cases, key=lambda feeds: next(iter(feeds.values())).size)
