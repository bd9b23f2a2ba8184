"""What a model is worth in the task's own metric, on labelled data or by a user's function."""

from __future__ import annotations

import importlib
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetfm.errors import DataError, InputError
from edgetfm.labelled import LabelledData, Run, pipeline_of, read_labelled
from edgetfm.metrics import drop
from edgetfm.tasks import Task

if TYPE_CHECKING:
    from edgetfm.runtime.preprocess import Preprocessor

__all__ = ["LabelledData", "UserMetric", "drop", "read_eval"]

_FUNCTION = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")


@dataclass(frozen=True)
class UserMetric:
    """A user's function from a pipeline to a number.

    name: module:function. Less is better if the function has an attribute `higher_is_better`
    that is False.
    """

    name: str
    function: Callable[[Any], Any]
    task: Task
    labels: tuple[str, ...] = ()

    @property
    def metric_name(self) -> str:
        """The function's name."""
        return self.name.partition(":")[2]

    @property
    def higher_is_better(self) -> bool:
        """Whether more of the metric is better."""
        return bool(getattr(self.function, "higher_is_better", True))

    def split(self) -> tuple[UserMetric, UserMetric]:
        """Itself twice: what it measures on is the user's, and cannot be divided."""
        return self, self

    def metric(
        self, run: Run, preprocessor: Preprocessor, config: Mapping[str, Any] | None = None
    ) -> float:
        """What the function says of a graph, given to it as a pipeline.

        Raises InputError if it fails or gives no finite number.
        """
        pipe = pipeline_of(self.task, self.labels, run, preprocessor, config)
        try:
            value = self.function(pipe)
        except Exception as error:  # whatever the user's code raises
            raise InputError(f"{self.name} failed: {_said(error)}") from error
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if isinstance(value, (str, bytes)) or not math.isfinite(number):
            raise InputError(f"{self.name} gave {value!r:.80}, expected a finite number")
        return number


def read_eval(spec: str, task: Task, labels: tuple[str, ...]) -> LabelledData | UserMetric:
    """What `--eval` names: a file or folder of labelled data, or module:function.

    labels: the names of the model's classes, () if it has none. A module is imported from the
    working directory or the path, and runs its code: only what the user named is. Raises
    DataError for data and InputError for a function that cannot be used.
    """
    if Path(spec).exists():
        return read_labelled(Path(spec), task, labels)
    if (named := _FUNCTION.fullmatch(spec)) is None:
        raise DataError(f"no labelled data at {spec}: give a file, a folder, or module:function")
    return UserMetric(spec, _imported(*named.groups()), task, labels)


def _imported(module: str, name: str) -> Callable[[Any], Any]:
    with _working_directory_first():
        try:
            found = getattr(importlib.import_module(module), name, None)
        except Exception as error:  # the module's own code runs
            raise InputError(f"{module} cannot be imported: {_said(error)}") from error
    if found is None:
        raise InputError(f"{module} has no function '{name}'")
    if not callable(found):
        raise InputError(f"{module}:{name} is {type(found).__name__}, expected a function")
    function: Callable[[Any], Any] = found
    return function


@contextmanager
def _working_directory_first() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(here)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
