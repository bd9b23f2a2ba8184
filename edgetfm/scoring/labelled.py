"""Labelled data: read from files, divided in two, and measured in the task's own metric."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from edgetfm.errors import DataError, listed
from edgetfm.quantize.calibration import FILES
from edgetfm.scoring.examples import COLUMNS, SHOWN, Example, Source
from edgetfm.scoring.score import Score
from edgetfm.scoring.task_metrics import MEASURES, Measure, has_spans
from edgetfm.signature import Feeds, Signature, TensorSpec
from edgetfm.tables import READERS, Row, read_rows, title
from edgetfm.task import Task

if TYPE_CHECKING:
    from edgetfm.runtime.model import Model
    from edgetfm.runtime.pipelines import Pipeline
    from edgetfm.runtime.preprocess import Preprocessor

Run = Callable[[Feeds], Feeds]


@dataclass(frozen=True)
class LabelledData:
    """Items with their answers. `labels` are the names of the model's classes."""

    name: str
    task: Task
    labels: tuple[str, ...]
    examples: tuple[Example, ...]

    @property
    def count(self) -> int:
        """The number of items."""
        return len(self.examples)

    @property
    def metric_name(self) -> str:
        """What `score` gives: accuracy, f1, bleu, rouge_l, spearman, perplexity or wer."""
        if self.task.name == "token-classification" and not has_spans(self.labels):
            return "accuracy"
        return MEASURES[self.task.name].metric

    @property
    def higher_is_better(self) -> bool:
        """Whether more of the metric is better."""
        return self.metric_name not in ("perplexity", "wer")

    @property
    def fingerprint(self) -> str:
        """A sha256 of all questions and answers, whatever their order."""
        parts = sorted(e.digest + repr(e.wanted).encode() for e in self.examples)
        return hashlib.sha256(b"".join(parts)).hexdigest()

    def split(self) -> tuple[Self, Self]:
        """About half of the items to judge by while choosing, and the rest to test the choice on.

        A hash of the question decides, so that equal questions stay together and an item's side
        depends neither on the order nor on the others. Raises DataError if a side is empty.
        """
        sides = [
            [e for e in self.examples if (e.digest[0] < 128) == half] for half in (True, False)
        ]
        if not all(sides):
            raise DataError(
                f"{self.name} has {self.count} items, too few to judge by one half and to test on "
                "the other: give 100 or more"
            )
        judge, test = (replace(self, examples=tuple(side)) for side in sides)
        return judge, test

    def score(self, pipe: Pipeline) -> Score:
        """What a model is worth, asked as a pipeline; its value is NaN if the answers are."""
        return self.scores(pipe)[self.metric_name]

    def scores(self, pipe: Pipeline) -> dict[str, Score]:
        """All that is usually said of the task: f1 and exact_match for question-answering."""
        return MEASURES[self.task.name].measure(pipe, self.examples)


@dataclass(frozen=True)
class _Graph:
    """What a task asks of a model: `run` and `signature`."""

    run: Run
    signature: Signature


def pipeline_of(
    task: Task,
    labels: tuple[str, ...],
    run: Run,
    preprocessor: Preprocessor,
    config: Mapping[str, Any] | None = None,
) -> Pipeline:
    """A graph that is in no bundle yet as a pipeline, called as those of `edgetfm.pipeline`."""
    from edgetfm.runtime.pipelines import Pipeline
    from edgetfm.runtime.tasks import Asked

    sequence = {o.name: o.per_token or o.kind == "span" for o in task.outputs}
    outputs = tuple(
        TensorSpec(
            o.name,
            "float32",
            ("batch", *(["sequence"] if sequence[o.name] else []))
            + (() if o.kind == "span" else ("width",)),
        )
        for o in task.outputs
    )
    graph = cast("Model", _Graph(run, Signature((), outputs)))
    return Pipeline(task.name, Asked(graph, preprocessor, labels, config or {}))


def read_labelled(path: Path, task: Task, labels: tuple[str, ...]) -> LabelledData:
    """The items of a file or, for pictures, of a folder with a folder for each label.

    Raises DataError that lists the rows that cannot be used, and if there are none.
    """
    kind = MEASURES.get(task.name)
    if kind is None:
        raise DataError(
            f"no metric is known for {task.name} on labelled data: give --eval module:function"
        )
    if kind.metric == "accuracy" and len(labels) == 1:
        raise DataError(
            f"a model with one output has no accuracy in {task.name}: give --eval module:function"
        )
    source = Source(path, labels)
    examples: list[Example] = []
    problems: list[str] = []
    for place, row in _rows(path, task, kind):
        try:
            examples.append(kind.read(source, row))
        except KeyError as error:
            has = ", ".join(map(str, row)) or "nothing"
            problems.append(f"{place}: no {error.args[0]}; it has {has}")
        except ValueError as error:
            problems.append(f"{place}: {error}")
    if problems:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise DataError(
            f"{path} cannot be used for {task.name}, which takes {kind.takes}:\n"
            f"{listed(problems[:SHOWN] + more)}"
        )
    if not examples:
        raise DataError(f"{path} holds nothing to judge by; {task.name} takes {kind.takes}")
    if kind.metric == "spearman" and len({e.wanted for e in examples}) < 2:
        raise DataError(f"{path}: all scores are equal, so nothing correlates with them")
    return LabelledData(title(path), task, labels, tuple(examples))


def _rows(path: Path, task: Task, kind: Measure) -> Iterable[tuple[str, Row]]:
    """What stands in each row, with its place in words."""
    of_files = [sense for sense in task.senses if sense in FILES]
    if path.is_dir() and len(of_files) == 1:
        (sense,) = of_files
        known = FILES[sense]
        files = sorted(p for p in path.glob("*/*") if p.suffix.lower() in known and p.is_file())
        return ((str(f.relative_to(path)), {sense: f, "label": f.parent.name}) for f in files)
    if kind.plain and (path.is_dir() or path.suffix.lower() == ".txt"):
        from edgetfm.quantize.readers import read_texts

        return ((f"text {i}", {"text": t}) for i, t in enumerate(read_texts(path, ""), 1))
    if path.is_dir() or path.suffix.lower() not in READERS:
        raise DataError(f"{path} cannot be used for {task.name}, which takes {kind.takes}")
    return ((f"row {number}", row) for number, row in read_rows(path, COLUMNS))
