"""What every command shares: --json, --debug, stdout kept for the result, common options."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edgetfm.cli._output import Output

Body = Callable[..., None]


def verb(cls: type[click.Command] = click.Command) -> Callable[[Body], click.Command]:
    """Make a command of a function whose first argument is the `Output` to speak through."""

    def decorate(body: Body) -> click.Command:
        @functools.wraps(body)
        def call(*, as_json: bool, debug: bool, **options: Any) -> None:
            out = click.get_current_context().find_object(Output)
            if out is None:
                out = Output(as_json=as_json, debug=debug)
            with out.reserved():
                body(out, **options)

        shared = (
            click.option("--debug", is_flag=True, help="Show the traceback of an error."),
            click.option("--json", "as_json", is_flag=True, help="Print one JSON object."),
        )
        for option in shared:
            call = option(call)
        return click.command(cls=cls)(call)

    return decorate


def folder(*names: str, help: str, required: bool = False) -> Callable[[Body], Body]:
    """An option that takes a path."""
    return click.option(*names, type=click.Path(path_type=Path), help=help, required=required)


def device() -> Callable[[Body], Body]:
    """--device."""
    return click.option(
        "--device", default="cpu", show_default=True, help="Where to run: cpu or cuda."
    )


PRECISIONS = ("auto", "int8", "fp16", "none")


class OptionalQuantize(click.Command):
    """A command whose --quantize may stand alone, also right before an argument.

    click would take `path` in `--quantize path` for the value.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Say `--quantize=auto` where no value follows."""
        for at, word in enumerate(args):
            if word == "--":
                break
            following = args[at + 1] if at + 1 < len(args) else ""
            if word == "--quantize" and not _is_precision(following):
                args = [*args[:at], "--quantize=auto", *args[at + 1 :]]
        return super().parse_args(ctx, args)


def _is_precision(word: str) -> bool:
    """Whether a word is meant as one; a misspelt one too, so that it is refused by name."""
    if word in PRECISIONS:
        return True
    looks_like_one = re.fullmatch(r"(u?int|fp|bf|float|q|w)\d\w*", word, re.IGNORECASE)
    return looks_like_one is not None and not Path(word).exists()
