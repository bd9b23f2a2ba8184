"""An empty value, as of a variable that is not set, is refused by name and is no default."""

from __future__ import annotations

import click
import pytest
from click.shell_completion import ShellComplete

from edgetfm.cli import VERBS, cli, main
from edgetfm.cli._verb import AnyText


def parameters(kind: type[click.Parameter]) -> list[tuple[str, click.Parameter]]:
    """(command, parameter) of all that take a value and not any text."""
    commands = {name: cli.get_command(click.Context(cli), name) for name in VERBS}
    return [
        (name, param)
        for name, command in commands.items()
        if command is not None
        for param in command.params
        if isinstance(param, kind) and not isinstance(param.type, AnyText)
        if not getattr(param, "is_flag", False)
    ]


@pytest.mark.parametrize(
    ("name", "option"), [(name, param.opts[-1]) for name, param in parameters(click.Option)]
)
def test_an_option_without_a_value_is_refused(
    name: str, option: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([name, option, ""]) == 2
    assert f"'{option}'" in capfd.readouterr().err


@pytest.mark.parametrize("name", [name for name, _ in parameters(click.Argument)])
def test_an_argument_without_a_value_is_refused(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([name, ""]) == 2
    assert "it is empty: give a value" in capfd.readouterr().err


def test_only_what_a_model_reads_may_be_empty() -> None:
    command = cli.get_command(click.Context(cli), "run")
    assert command is not None
    free = {p.opts[-1] for p in command.params if isinstance(p.type, AnyText)}
    assert free == {"inputs", "--context", "--text"}


@pytest.mark.parametrize("name", list(VERBS))
def test_help_comes_before_what_is_empty(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([name, "", "--help"]) == 0
    assert capfd.readouterr().out.startswith(f"Usage: edgetfm {name}")


def test_a_shell_completes_a_line_with_an_empty_word() -> None:
    shell = ShellComplete(cli, {}, "edgetfm", "_EDGETFM_COMPLETE")
    assert [found.value for found in shell.get_completions(["run", ""], "--prec")] == [
        "--precision"
    ]
