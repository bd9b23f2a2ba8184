"""`edgetfm run`: a bundle's answers for people."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from edgetfm.cli._output import Output
from edgetfm.cli._verb import device, verb
from edgetfm.errors import InputError


@verb()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--context", help="The text a question is about (question-answering).")
@click.option("--precision", help="A variant of the bundle; its default if not given.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of one operation.")
@device()
def command(
    out: Output,
    bundle: Path,
    inputs: tuple[str, ...],
    context: str | None,
    precision: str | None,
    threads: int | None,
    device: str,
) -> None:
    """Answer for each INPUT: a text, a question or the path of an image.

    `-` reads inputs from stdin, a line each.
    """
    from edgetfm.cli._text import answer_text
    from edgetfm.runtime import pipeline

    pipe = pipeline(bundle, precision=precision, device=device, threads=threads)
    task = pipe.task
    if (task == "question-answering") != (context is not None):
        raise InputError(
            "question-answering needs --context TEXT, what the question is about"
            if context is None
            else f"--context is for question-answering, and this bundle does {task}"
        )
    answers = []
    for item in _items(inputs):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UserWarning)
            answer = pipe(item) if context is None else pipe((item, context))
        for warning in said:  # a text that was cut, for one
            out.note(f"note: {warning.message}")
        answers.append({"input": item, "output": answer})
        out.line(answer_text(item, answer))
    if out.as_json:
        out.result({"task": task, "answers": answers}, str)


def _items(inputs: tuple[str, ...]) -> Iterator[Any]:
    """The inputs in order, stdin's lines in the place of `-`; empty lines are left out."""
    for item in inputs:
        if item == "-":
            try:
                yield from (line.rstrip("\r\n") for line in sys.stdin if line.strip())
            except UnicodeDecodeError as error:
                raise InputError(
                    f"stdin is not {error.encoding} text ({error.reason}): it takes one text a line"
                ) from error
        else:
            yield item
