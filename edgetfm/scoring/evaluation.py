"""What a model is worth in the task's own metric, on labelled data or by a user's function."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetfm.errors import DataError, InputError
from edgetfm.scoring.labelled import LabelledData, read_labelled
from edgetfm.scoring.metrics import drop
from edgetfm.scoring.score import Score
from edgetfm.task import Task
from edgetfm.users_code import import_function, names_function, shown, users_code

if TYPE_CHECKING:
    from edgetfm.runtime.pipelines import Pipeline

__all__ = ["LabelledData", "UserMetric", "drop", "read_eval"]


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
        """Whether more of the metric is better; InputError if the attribute does not say."""
        with users_code(f"{self.name}.higher_is_better"):
            return bool(getattr(self.function, "higher_is_better", True))

    def split(self) -> tuple[UserMetric, UserMetric]:
        """Itself twice: what it measures on is the user's, and cannot be divided."""
        return self, self

    def score(self, pipe: Pipeline) -> Score:
        """What the function says of a pipeline.

        Raises InputError if it fails or gives no finite number.
        """
        with users_code(self.name):
            value = self.function(pipe)
            try:
                number = float(value)
            except (TypeError, ValueError, OverflowError):
                number = math.nan
            if math.isfinite(number) and not isinstance(value, (str, bytes)):
                return Score(number)
        raise InputError(f"{self.name} gave {shown(value):.100}, expected a finite number")


def read_eval(spec: str, task: Task, labels: tuple[str, ...]) -> LabelledData | UserMetric:
    """What `--eval` names: a file or folder of labelled data, or module:function.

    labels: the names of the model's classes, () if it has none. A module is imported from the
    working directory or the path, and runs its code: only what the user named is. Raises
    DataError for data and InputError for a function that cannot be used.
    """
    if os.path.exists(spec):  # noqa: PTH110 - a Path raises on names that are too long
        return read_labelled(Path(spec), task, labels)
    if not names_function(spec):
        raise DataError(f"no labelled data at {spec}: give a file, a folder, or module:function")
    found = UserMetric(spec, import_function(spec), task, labels)
    _ = found.higher_is_better  # before any work is done
    return found
