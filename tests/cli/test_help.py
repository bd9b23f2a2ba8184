"""The command line starts light, and its table of commands is what is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

import edgetfm
import edgetfm.cli
from edgetfm.cli import VERBS, cli, main

HEAVY = ("edgetfm.workflow", "edgetfm.runtime", "jinja2", "numpy", "onnxruntime", "rich", "torch")


def modules_after(*arguments: str) -> set[str]:
    code = (
        "import sys, edgetfm.cli\n"
        "edgetfm.cli.main(sys.argv[1:])\n"
        "print('MODULES', *sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    last = done.stderr.splitlines()[-1].split()
    assert last[0] == "MODULES"
    return set(last[1:])


def test_help_imports_nothing_heavy() -> None:
    loaded = modules_after("--help")
    assert "importlib.metadata" not in loaded
    assert "edgetfm.cli" in loaded
    assert loaded.isdisjoint(HEAVY)
    assert not [
        m for m in loaded if m.startswith("edgetfm.cli.") and not m.startswith("edgetfm.cli._")
    ]


@pytest.mark.parametrize("name", VERBS)
def test_help_of_a_command_imports_nothing_heavy(name: str) -> None:
    assert modules_after(name, "--help").isdisjoint(HEAVY)


def test_cycles_are_looked_for_seldom_while_a_command_works() -> None:
    code = (
        "import gc, edgetfm.cli\n"
        "edgetfm.cli.main(['--version'])\n"
        "seen = []\n"
        "gc.callbacks.append(lambda *_: seen.append(1))\n"
        "kept = [[] for _ in range(50_000)]\n"
        "print(len(seen))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0"


def test_there_is_one_file_a_command() -> None:
    files = {p.stem for p in Path(edgetfm.cli.__file__).parent.glob("[!_]*.py")}
    assert files == set(VERBS)


@pytest.mark.parametrize("name", VERBS)
def test_every_command_offers_json_and_says_what_it_does(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert {"--json", "--debug"} <= {o for p in command.params for o in p.opts}
    assert command.help
    undocumented = [
        p.opts[-1] for p in command.params if isinstance(p, click.Option) and not p.help
    ]
    assert undocumented == []


def test_help_goes_to_stdout_and_names_every_command(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out, err = capfd.readouterr()
    assert all(f"\n  {name} " in out for name in VERBS)
    assert "130 interrupted" in " ".join(out.split())
    assert err == ""


def test_the_version_is_the_one_installed(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capfd.readouterr().out == f"edgetfm {edgetfm.__version__}\n"


def test_an_unknown_command_is_a_usage_error(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["exprot"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert "No such command 'exprot'" in err
