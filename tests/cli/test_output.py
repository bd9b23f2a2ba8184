"""Exit codes, and what goes to stdout and what to stderr."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgetfm.runtime.doctor
from edgetfm.cli import main
from edgetfm.cli._output import json_text
from edgetfm.errors import BudgetError, DeviceError, MissingExtra, SourceError


def doctor_that(monkeypatch: pytest.MonkeyPatch, behave: Any) -> None:
    """Let the work behind one command do what this test is about."""
    monkeypatch.setattr(edgetfm.runtime.doctor, "examine", behave)


def raiser(error: BaseException) -> Any:
    def examine() -> list[dict[str, Any]]:
        raise error

    return examine


ERRORS = [
    (SourceError("no weights in x"), 2, "no weights in x"),
    (MissingExtra("vision", "images"), 2, "pip install 'edgetfm[vision]'"),
    (BudgetError("too much is lost"), 3, "too much is lost"),
    (DeviceError("no cuda"), 4, "no cuda"),
    (KeyboardInterrupt(), 130, "interrupted"),
    (ZeroDivisionError("division by zero"), 1, "this is a bug in edgetfm: ZeroDivisionError"),
    (FileNotFoundError(2, "No such file or directory", "a.txt"), 2, "a.txt: No such file"),
    (
        ModuleNotFoundError("No module named 'torch'", name="torch"),
        2,
        "pip install 'edgetfm[export]'",
    ),
    (ModuleNotFoundError("No module named 'surprise'", name="surprise"), 1, "this is a bug"),
]


@pytest.mark.parametrize(("error", "code", "words"), ERRORS)
def test_an_error_ends_with_its_exit_code_and_one_message(
    error: BaseException,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    doctor_that(monkeypatch, raiser(error))
    assert main(["doctor"]) == code
    out, err = capfd.readouterr()
    assert out == ""
    assert words in err
    assert "Traceback" not in err


@pytest.mark.parametrize(("error", "code", "words"), ERRORS)
def test_with_json_an_error_is_the_one_object(
    error: BaseException,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    doctor_that(monkeypatch, raiser(error))
    assert main(["doctor", "--json"]) == code
    out, _ = capfd.readouterr()
    ((key, value),) = json.loads(out).items()
    assert key == "error"
    assert value["exit_code"] == code
    assert words in value["message"]
    assert out.count("\n") == 1


@pytest.mark.parametrize("how", ["option", "environment"])
def test_a_traceback_is_shown_on_request(
    how: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    doctor_that(monkeypatch, raiser(ZeroDivisionError("division by zero")))
    if how == "environment":
        monkeypatch.setenv("EDGETFM_DEBUG", "1")
    assert main(["doctor", *(["--debug"] if how == "option" else [])]) == 1
    assert "Traceback" in capfd.readouterr().err


def test_a_usage_error_with_json_is_the_one_object(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--json"]) == 2
    out, err = capfd.readouterr()
    assert json.loads(out)["error"]["exit_code"] == 2
    assert "Missing" in json.loads(out)["error"]["message"]
    assert "Usage:" in err


def test_what_other_code_prints_never_reaches_stdout(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def examine() -> list[dict[str, Any]]:
        print("a library that prints")  # noqa: T201
        os.write(1, b"C++ that prints\n")
        return [{"name": "x", "ok": True}]

    doctor_that(monkeypatch, examine)
    assert main(["doctor", "--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out) == {"checks": [{"name": "x", "ok": True}]}
    assert "a library that prints" in err
    assert "C++ that prints" in err
    os.write(1, b"after\n")
    print("afterwards")  # noqa: T201
    sys.stdout.flush()
    assert capfd.readouterr().out == "after\nafterwards\n"


def test_a_reader_that_leaves_is_no_bug(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    doctor_that(monkeypatch, raiser(BrokenPipeError(32, "Broken pipe")))
    assert main(["doctor"]) == 141
    assert capfd.readouterr() == ("", "")


def test_warnings_of_other_libraries_are_not_shown(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def examine() -> list[dict[str, Any]]:
        import warnings

        warnings.warn("deprecated", FutureWarning, stacklevel=1)
        return []

    doctor_that(monkeypatch, examine)
    assert main(["doctor"]) == 0
    assert "deprecated" not in capfd.readouterr().err


def test_json_is_plain() -> None:
    data = {
        "path": Path("a"),
        "one": np.float32(0.5),
        "many": np.arange(3),
        "nan": float("nan"),
        "pair": (1, np.inf),
        "ok": True,
        "text": "naïve",
    }
    text = json_text(data)
    assert json.loads(text) == {
        "path": "a",
        "one": 0.5,
        "many": [0, 1, 2],
        "nan": None,
        "pair": [1, None],
        "ok": True,
        "text": "naïve",
    }
    assert "naïve" in text


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_streams_change_no_exit_code(closed: tuple[int, ...]) -> None:
    """Nothing that is printed lands in a file that got the number of a closed stream."""
    for words, code in ((["--version"], 0), (["inspect", "/nowhere"], 2)):
        done = subprocess.run(
            [sys.executable, "-c", CLOSED, *map(str, closed), "--", *words], check=False
        )
        assert done.returncode == code


CLOSED = """
import os, sys
at = sys.argv.index("--")
closed = {int(number) for number in sys.argv[1:at]}
for number in closed:
    os.close(number)
names = ("stdin", "stdout", "stderr")
for number in closed:
    setattr(sys, names[number], None)
from edgetfm.cli import main
code = main(sys.argv[at + 1:])
assert os.path.samestat(os.fstat(max(closed)), os.stat(os.devnull))
os._exit(code)
"""


def test_a_full_stderr_changes_no_exit_code() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "edgetfm", "inspect", "/nowhere"]
        assert subprocess.run(command, stderr=full, check=False).returncode == 2
