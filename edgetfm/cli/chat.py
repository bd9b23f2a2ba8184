"""`edgetfm chat`: a conversation with a bundle that was trained for it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

import click

from edgetfm.cli._generation import chosen, generation_options, noted, say
from edgetfm.cli._output import Output
from edgetfm.cli._verb import AnyText, run_options, verb
from edgetfm.errors import InputError

HINT = "Ctrl-C stops an answer, twice or Ctrl-D ends."


@verb()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--system", type=AnyText(), help="What the model is told before the first message.")
@generation_options
@run_options
def command(
    out: Output,
    bundle: Path,
    system: str | None,
    precision: str | None,
    threads: int | None,
    device: str,
    **options: Any,
) -> None:
    """Chat with BUNDLE; without a terminal each line of stdin is a message."""
    from edgetfm.runtime import pipeline
    from edgetfm.runtime.generation.conversation import Conversation

    pipe = pipeline(bundle, precision=precision, device=device, threads=threads)
    if pipe.task != "text-generation":
        raise InputError(f"this bundle does {pipe.task}: a chat needs one for text-generation")
    writer = pipe.asked.writer
    talk = Conversation(writer, writer.defaults.changed(**chosen(options)), system=system)
    for text in _typed(out) if sys.stdin.isatty() else _piped():
        before = talk.left_out
        with noted(out):
            begun = talk.answer(text)
        with begun as stream, _stopped_by_interrupt(stream.stop):
            say(out, stream)
        if talk.left_out > before:
            out.note("note: the first messages no longer fit the model's context")
    if out.as_json:
        out.result({"messages": talk.messages}, str)


def _piped() -> Iterator[str]:
    """The lines of stdin that are not empty."""
    try:
        yield from (line.strip() for line in sys.stdin if line.strip())
    except UnicodeDecodeError as error:
        raise InputError(f"stdin is not {error.encoding} text ({error.reason})") from error


def _typed(out: Output) -> Iterator[str]:
    """What a person types, with line editing where the system has it, until they end it."""
    with suppress(ImportError):
        import readline  # noqa: F401  (input() uses it once it is there)
    out.note(HINT)
    interrupted = False
    while True:
        try:
            # input() edits lines only on the terminal that Python began with.
            with redirect_stdout(sys.__stdout__):
                text = input("> ").strip()
        except EOFError:
            out.note("")
            return
        except KeyboardInterrupt:
            if interrupted:
                raise
            interrupted = True
            out.note(f"\n{HINT}")
            continue
        interrupted = False
        if text:
            yield text


@contextmanager
def _stopped_by_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C stops an answer and keeps what was read; a second one ends the command."""

    def first(number: int, frame: Any) -> None:
        stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
