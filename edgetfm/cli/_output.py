"""Where a command's result, its errors and everything else go, and the exit code it ends with."""

from __future__ import annotations

import json
import math
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import click

from edgetfm.errors import EdgetfmError, InputError, MissingExtra

INTERRUPTED = 130
BROKEN_PIPE = 141  # what a shell reports for SIGPIPE: the reader left, nobody is at fault

EXTRAS = {
    "torch": "export",
    "transformers": "export",
    "onnx": "export",
    "onnx_ir": "export",
    "onnxscript": "export",
    "safetensors": "export",
    "onnxruntime": "cpu",
    "PIL": "vision",
    "sklearn": "train",
    "matplotlib": "report",
    "optimum": "optimum",
}
"""Module -> the extra that installs it, for an import that no command foresaw."""


class Output:
    """One command's voice: `result` on stdout, once; notes and errors on stderr.

    With `as_json` stdout gets exactly one JSON object, also for an error. While a command works
    (`reserved`) whatever other code prints to stdout, C++ included, lands on stderr.
    """

    def __init__(self, *, as_json: bool = False, debug: bool = False) -> None:
        self.as_json = as_json
        self.debug = debug
        self._stream: TextIO | None = None
        self._said = False

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Keep stdout for the result."""
        sys.stdout.flush()
        real, python = os.dup(1), sys.stdout
        try:
            with open(  # noqa: PTH123  (a descriptor, not a path)
                real, "w", encoding=python.encoding or "utf-8", errors="backslashreplace"
            ) as self._stream:
                os.dup2(2, 1)
                sys.stdout = sys.stderr
                try:
                    yield
                finally:
                    sys.stdout = python
                    os.dup2(real, 1)
        finally:
            self._stream = None

    def result(self, data: Mapping[str, Any], text: Callable[[], str]) -> None:
        """What the command found: `data` for programs, `text()` for people."""
        self._said = True
        self._write(json_text(data) if self.as_json else text())

    def line(self, text: str) -> None:
        """One line of a result that comes in pieces; nothing with --json."""
        if not self.as_json:
            self._write(text)

    def piece(self, text: str) -> None:
        """A part of a line, shown at once; nothing with --json."""
        if not self.as_json:
            self._write(text, end="")

    def note(self, text: str) -> None:
        """Something worth knowing that is not the result."""
        click.echo(text, err=True)

    def failure(self, error: BaseException) -> int:
        """Say what went wrong; the exit code."""
        kind, message, code = self._described(error)
        if self.debug and not isinstance(error, click.ClickException):
            click.echo("".join(traceback.format_exception(error)), err=True)
        if self.as_json and not self._said:
            self._write(json_text({"error": {"type": kind, "message": message, "exit_code": code}}))
        with suppress(OSError):  # a stderr that takes nothing must not change the exit code
            if isinstance(error, click.ClickException):
                error.show(sys.stderr)
            else:
                lead = click.style("edgetfm:", fg="red", bold=True)
                click.echo(f"{lead} {_sentence(message)}", err=True)
        return code

    def _described(self, error: BaseException) -> tuple[str, str, int]:
        """Type, message and exit code."""
        if isinstance(error, click.exceptions.Abort) and error.__cause__ is not None:
            error = error.__cause__
        name = type(error).__name__
        if isinstance(error, KeyboardInterrupt):
            return name, "interrupted", INTERRUPTED
        if isinstance(error, click.ClickException):
            return name, error.format_message(), error.exit_code
        if isinstance(error, EdgetfmError) and error.exit_code != EdgetfmError.exit_code:
            return name, str(error), error.exit_code
        if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in EXTRAS:
            missing = MissingExtra(EXTRAS[str(error.name).split(".")[0]], "this command")
            return "MissingExtra", str(missing), missing.exit_code
        if isinstance(error, OSError) and error.strerror:
            where = f"{error.filename}: " if error.filename else ""
            return name, f"{where}{error.strerror}", InputError.exit_code
        again = "" if self.debug else "; run again with --debug and report it with what it prints"
        return name, f"this is a bug in edgetfm: {name}: {error}{again}", EdgetfmError.exit_code

    def _write(self, text: str, end: str = "\n") -> None:
        stream = self._stream or sys.stdout
        click.echo(text + end, file=stream, nl=False)
        stream.flush()


def _sentence(message: str) -> str:
    """A list of problems starts on its own line."""
    return f"\n{message}" if message.startswith("  - ") else message


def json_text(data: Mapping[str, Any]) -> str:
    """One JSON object, numpy's and pathlib's values in plain form; NaN and infinities are null."""
    text = json.dumps(_plain(data), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "replace").decode()  # a path may hold half of a surrogate pair


def _plain(value: Any) -> Any:
    if hasattr(value, "to_json"):
        value = value.to_json()
    elif hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value
