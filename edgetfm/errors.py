"""Every error edgetfm raises on purpose, and the exit code each one ends a command with.

    EdgetfmError                1   (never raised itself)
    ├── InputError              2   what was given cannot be used
    │   ├── SourceError             a model that cannot be read
    │   │   └── NotHonoured             ... by a family of ours, for it does less than transformers
    │   ├── BundleError             a bundle that is damaged, foreign, or newer than this version
    │   ├── DataError               calibration, evaluation or training data
    │   ├── OutputError             a place that cannot be written
    │   └── MissingExtra            an optional dependency; names the pip line
    ├── ParityError             3   an answer differs by more than its bound
    │   ├── BudgetError             no variant stays inside the budget
    │   └── QuantizationError       a quantized graph that onnxruntime does not run
    └── DeviceError             4   a device that is missing, or fell back to another

Exit code 0 is done, 1 a bug of ours, 130 an interrupt.
"""

from __future__ import annotations

from collections.abc import Iterable


class EdgetfmError(Exception):
    """An error with a message for people: what was given, what is allowed, what to do next."""

    exit_code = 1


class InputError(EdgetfmError):
    """What was given cannot be used."""

    exit_code = 2


class SourceError(InputError):
    """A model source that cannot be read."""


class NotHonoured(SourceError):
    """A config that asks of a family what it does not do; transformers' own module may."""


class BundleError(InputError):
    """A bundle that is damaged, foreign, or newer than this version."""


class DataError(InputError):
    """Data for calibration, evaluation or training that cannot be used."""


class OutputError(InputError):
    """A place that cannot be written."""


class MissingExtra(InputError):
    """An optional dependency that is not installed."""

    def __init__(self, extra: str, needed_for: str) -> None:
        self.extra = extra
        super().__init__(f"{needed_for} needs more packages: pip install 'edgetfm[{extra}]'")


class ParityError(EdgetfmError):
    """An answer that differs from the one above it by more than its bound."""

    exit_code = 3


class BudgetError(ParityError):
    """No variant stays inside the budget."""


class QuantizationError(ParityError):
    """A quantized graph that onnxruntime does not load or run."""


class DeviceError(EdgetfmError):
    """A device that is missing, or that fell back to another one."""

    exit_code = 4


def listed(problems: Iterable[str]) -> str:
    """All problems at once, a line each; a single one stands without a bullet."""
    lines = list(problems)
    return lines[0] if len(lines) == 1 else "\n".join(f"  - {line}" for line in lines)


_LONGEST_REASON = 240
"""Characters of another library's error that are shown: some print a program, or every name."""


def in_short(error: BaseException) -> str:
    """The first line of another library's error, or the beginning of it."""
    lines = (line.strip() for line in str(error).splitlines())
    line = next((text for text in lines if text), "") or type(error).__name__
    return line if len(line) <= _LONGEST_REASON else f"{line[:_LONGEST_REASON].rstrip()} ..."
