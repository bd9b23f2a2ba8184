"""What a model is worth in the task's own metric, on labelled data or by a user's function."""

from __future__ import annotations

import importlib
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetfm.errors import DataError, InputError
from edgetfm.scoring.labelled import LabelledData, Run, pipeline_of, read_labelled
from edgetfm.scoring.metrics import drop
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
        """Whether more of the metric is better; InputError if the attribute does not say."""
        with _users_code(f"{self.name}.higher_is_better"):
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
        with _users_code(self.name):
            value = self.function(pipe)
            try:
                number = float(value)
            except (TypeError, ValueError, OverflowError):
                number = math.nan
            if math.isfinite(number) and not isinstance(value, (str, bytes)):
                return number
        raise InputError(f"{self.name} gave {_shown(value):.100}, expected a finite number")


def read_eval(spec: str, task: Task, labels: tuple[str, ...]) -> LabelledData | UserMetric:
    """What `--eval` names: a file or folder of labelled data, or module:function.

    labels: the names of the model's classes, () if it has none. A module is imported from the
    working directory or the path, and runs its code: only what the user named is. Raises
    DataError for data and InputError for a function that cannot be used.
    """
    if os.path.exists(spec):  # noqa: PTH110 - a Path raises on names that are too long
        return read_labelled(Path(spec), task, labels)
    if (named := _FUNCTION.fullmatch(spec)) is None:
        raise DataError(f"no labelled data at {spec}: give a file, a folder, or module:function")
    found = UserMetric(spec, _imported(*named.groups()), task, labels)
    _ = found.higher_is_better  # before any work is done
    return found


def _imported(module: str, name: str) -> Callable[[Any], Any]:
    with _working_directory_first(), _users_code(module, "cannot be imported"):
        found = getattr(importlib.import_module(module), name, None)
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
        with suppress(ValueError):  # the module may have changed it
            sys.path.remove(here)


@contextmanager
def _users_code(name: str, did: str = "failed") -> Iterator[None]:
    """Whatever code of the user raises becomes an InputError, sys.exit too, but not Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise InputError(f"{name} {did}: {type(error).__name__}: {_shown(error, str)}") from error


def _shown(value: Any, how: Callable[[Any], str] = repr) -> str:
    """A value of the user's in short; its type where it cannot be shown."""
    try:
        return f"{how(value):.200}"
    except KeyboardInterrupt:
        raise
    except BaseException:  # it is the user's code that shows it
        return f"a {type(value).__name__} that cannot be shown"
