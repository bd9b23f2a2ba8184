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


class AnyText(click.types.StringParamType):
    """A text that a model reads: of all that is given, it alone may be empty."""


class Verb(click.Command):
    """A command that refuses an empty value, as of a variable that is not set, by name.

    An empty path would be the current folder, and an empty name often its default.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Look at what is given before it is converted."""
        given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        told = self.get_help_option(ctx)
        helps = told is not None and given.get(told.name)
        for param in [] if helps or ctx.resilient_parsing else self.params:  # as a shell completes
            values = given.get(param.name)
            empty = "" in values if isinstance(values, (list, tuple)) else values == ""
            if empty and not isinstance(param.type, (AnyText, click.Choice)):  # a choice says more
                without = "" if param.required else ", or leave it out"
                raise click.BadParameter(f"it is empty: give a value{without}", ctx, param)
        return super().parse_args(ctx, args)


def verb(cls: type[Verb] = Verb) -> Callable[[Body], click.Command]:
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


def count(name: str, *, help: str, default: int | None = None) -> Callable[[Body], Body]:
    """An option that takes a number of things, at least one."""
    least = click.IntRange(min=1)
    return click.option(name, type=least, default=default, show_default=True, help=help)


def device() -> Callable[[Body], Body]:
    """--device."""
    return click.option(
        "--device", default="cpu", show_default=True, help="Where to run: see `edgetfm doctor`."
    )


def run_options(body: Body, *, threads: int | None = None) -> Body:
    """How a bundle is run: --precision, --threads and --device."""
    for option in (
        device(),
        count("--threads", default=threads, help="Threads of one operation."),
        click.option("--precision", help="A variant of the bundle; its default if not given."),
    ):
        body = option(body)
    return body


def inputs(help: str) -> Callable[[Body], Body]:
    """--inputs."""
    return click.option("--inputs", metavar="FUNCTION|FILE.npz", help=help)


def keep_fp32() -> Callable[[Body], Body]:
    """--keep-fp32."""
    text = "Ship the float32 variant beside the chosen one."
    return click.option("--keep-fp32", is_flag=True, help=text)


PRECISIONS = ("auto", "int8", "int8-static", "a16w8", "int8-weight", "int4", "fp16", "none")
"""As edgetfm.search.goal.CHOICES, which costs an import."""


def quantize_options(body: Body) -> Body:
    """The options of `export` and `quantize` that say what is wanted."""
    options = (
        click.option(
            "--max-drop",
            metavar="BUDGET",
            help="What may be lost: cosine:0.995, agreement:0.99, or 1% of the metric of --eval "
            "(or two standard errors of the difference, at most 3 times as much).",
        ),
        click.option(
            "--calibration",
            metavar="PATH",
            help="Data like the inputs to come: .txt .csv .jsonl .parquet .npz, or a folder of "
            "texts, images or sounds.",
        ),
        click.option(
            "--samples",
            type=click.IntRange(min=4),
            help="How many calibration items are looked at.  [default: 256]",
        ),
        click.option(
            "--eval",
            "evaluate",
            metavar="DATA",
            help="Labelled data for the task's own metric (.csv .jsonl .parquet, a folder "
            "LABEL/FILE of images or sounds), or module:function.",
        ),
        click.option(
            "--target",
            metavar="CPUS",
            help="CPUs that must get the same answers: x86-vnni,x86-avx2,arm64.",
        ),
        click.option(
            "--recipe",
            type=click.Path(path_type=Path),
            help="Make it again as this recipe, or this bundle, says.",
        ),
        click.option(
            "--prefer",
            type=click.Choice(["speed", "size"]),
            default="speed",
            show_default=True,
            help="What auto looks for.",
        ),
        click.option(
            "--time",
            metavar="TIME",
            help="How long to search: 90s, 10m, 1h; seconds without a unit.  [default: 10m]",
        ),
    )
    for option in reversed(options):
        body = option(body)
    return body


class OptionalQuantize(Verb):
    """A command whose --quantize may stand alone, also right before an argument.

    click would take `path` in `--quantize path` for the value.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Say `--quantize=auto` where no value follows."""
        for at, word in enumerate(args):
            if word == "--":
                break
            following = args[at + 1 : at + 2]
            if word == "--quantize" and not any(map(_is_precision, following)):
                args = [*args[:at], "--quantize=auto", *args[at + 1 :]]
        return super().parse_args(ctx, args)


def _is_precision(word: str) -> bool:
    """Whether a word is meant as one; a misspelt or empty one too, so that it is refused."""
    if word in (*PRECISIONS, ""):
        return True
    looks_like_one = re.fullmatch(r"(u?int|fp|bf|float|q|w)\d\w*", word, re.IGNORECASE)
    return looks_like_one is not None and not Path(word).exists()
