"""What commands that generate text share: their options, and a stream as it is printed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from edgetfm.cli._output import Output
from edgetfm.errors import InputError

if TYPE_CHECKING:
    from edgetfm.runtime.generation.writer import Stream

Body = Callable[..., None]

NAMES = {
    "max_new_tokens": "--max-new-tokens",
    "temperature": "--temperature",
    "top_k": "--top-k",
    "top_p": "--top-p",
    "min_p": "--min-p",
    "repetition_penalty": "--repetition-penalty",
    "stop_strings": "--stop",
    "seed": "--seed",
    "prompt_lookup_num_tokens": "--lookup",
    "chat": "--chat",
}
"""Option of edgetfm.runtime.generation.options -> what the command line calls it."""


def generation_options(body: Body) -> Body:
    """The options of `run` and `chat` that say what is generated."""
    options = (
        click.option(
            "--max-new-tokens",
            type=int,
            metavar="N",
            help="The most tokens of an answer.  [default: 256]",
        ),
        click.option(
            "--temperature", type=float, help="Sample; above 1 wilder, 0 takes the likeliest."
        ),
        click.option("--top-k", type=int, help="Sample from the K likeliest tokens; 0 is all."),
        click.option(
            "--top-p", type=float, help="Sample from the likeliest that hold this share together."
        ),
        click.option(
            "--min-p",
            type=float,
            help="Sample from those at least this share as likely as the likeliest.",
        ),
        click.option(
            "--repetition-penalty",
            type=float,
            help="Above 1, what was said already becomes less likely.",
        ),
        click.option(
            "--stop",
            "stop_strings",
            multiple=True,
            metavar="TEXT",
            help="End before this text; may be given again.",
        ),
        click.option("--seed", type=int, help="The same seed, the same text."),
        click.option(
            "--lookup",
            "prompt_lookup_num_tokens",
            type=int,
            metavar="N",
            help="Guess up to N tokens from what was said before: faster where text repeats. The "
            "answer is the same in fp32; in int4 and int8 nearly equal tokens may fall otherwise.",
        ),
    )
    for option in reversed(options):
        body = option(body)
    return body


def chosen(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options of generation that were given."""
    given = {k: v for k, v in options.items() if k in NAMES}
    return {k: v for k, v in given.items() if not (v is None or v is False or v == ())}


def refuse(options: Mapping[str, Any], task: str) -> None:
    """Raise an InputError if an option of generation was given to a bundle that does not."""
    given = [NAMES[name] for name in chosen(options)]
    if given:
        verb = "is" if len(given) == 1 else "are"
        raise InputError(
            f"{', '.join(given)} {verb} for text-generation, and this bundle does {task}"
        )


@contextmanager
def noted(out: Output) -> Iterator[None]:
    """What is warned of inside is told as a note."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in said:
        out.note(f"note: {warning.message}")


def say(out: Output, stream: Stream) -> None:
    """Print an answer as it comes, and end its line; say so if the context is full."""
    try:
        for piece in stream:
            out.piece(piece)
    finally:
        out.piece("\n")
    if stream.reason == "context":
        out.note("note: the model's context is full, the answer ends here")
