"""`edgetfm run`: a bundle's answers for people."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgetfm.cli._generation import generation_options, noted, say
from edgetfm.cli._output import Output
from edgetfm.cli._pictures import check_pictures, draw, options_of, told
from edgetfm.cli._senses import check_senses, sense_options, senses_of
from edgetfm.cli._verb import AnyText, run_options, verb
from edgetfm.cli._written import TEXTS, given_of, written_options
from edgetfm.errors import InputError

if TYPE_CHECKING:
    from edgetfm.runtime import Pipeline


@verb()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("inputs", nargs=-1, metavar="INPUT...", type=AnyText())
@click.option(
    "--file",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A file of text that is one INPUT; may be given again.",
)
@click.option(
    "--context",
    type=AnyText(),
    help="The text that a question is about (question-answering, text2text-generation).",
)
@click.option("--labels", help="Labels to choose from, commas between (zero-shot pictures).")
@click.option(
    "--among",
    type=click.Path(path_type=Path),
    help="Where what fits best is found: a folder of pictures, or a .txt file, a text a line.",
)
@click.option("--best", type=int, metavar="N", help="How many are told (with --among, --labels).")
@sense_options
@click.option(
    "--pictures", type=click.Path(path_type=Path), help="Where boxes, masks and depths go."
)
@click.option(
    "--attention",
    type=click.Path(path_type=Path, dir_okay=False),
    help="An .html page to write, which tokens the model looks at; or a .png of a picture.",
)
@generation_options
@written_options
@click.option("--chat", is_flag=True, help="Each INPUT is a message to a model that chats.")
@run_options
def command(
    out: Output,
    bundle: Path,
    inputs: tuple[str, ...],
    files: tuple[Path, ...],
    context: str | None,
    labels: str | None,
    among: Path | None,
    best: int | None,
    pictures: Path | None,
    attention: Path | None,
    chat: bool,
    precision: str | None,
    threads: int | None,
    device: str,
    **options: Any,
) -> None:
    """Answer for each INPUT: a text, a question, a prompt, the path of an image or of a sound.

    `-` reads inputs from stdin, a line each. Generated text is printed as it comes.
    """
    from edgetfm.cli._text import answer_text
    from edgetfm.runtime import pipeline

    senses = senses_of(options)
    if not inputs and not files and not senses:
        raise InputError("nothing to answer: give an INPUT, - for stdin, or --file FILE")
    whole = [_text_in(file) for file in files]
    pipe = pipeline(bundle, precision=precision, device=device, threads=threads)
    task = pipe.task
    if context is None and task == "question-answering":
        raise InputError("question-answering needs --context TEXT, what the question is about")
    if context is not None and task not in ("question-answering", "text2text-generation"):
        raise InputError(f"--context is for question-answering, and this bundle does {task}")
    check_senses(task, senses, inputs)
    check_pictures(task, pictures)
    given = given_of(pipe, {**options, "chat": chat})
    if attention is not None:
        from edgetfm.cli._attention import draw_attention

        inputs, whole = tuple(_items(inputs, whole)), []  # stdin is read once
        shown = [item if context is None else (item, context) for item in inputs]
        draw_attention(pipe, shown, attention)
    if task in ("text-generation", *TEXTS):
        given.pop("chat", None)
        _generate(out, pipe, _items(inputs, whole), chat, given, context)
        return
    named = {**options_of(task, labels, among, best), **given}
    answers = []
    for asked in [senses] if senses else _items(inputs, whole):
        with noted(out):  # that a text was cut, for one
            answer = pipe(asked if context is None else (asked, context), **named)
        item = ", ".join(senses.values()) if senses else str(asked)
        drawn = draw(task, item, answer, pictures)
        answer = told(item, answer, pictures)
        answers.append({"input": item, "output": answer} | ({"drawn": str(drawn)} if drawn else {}))
        out.line(answer_text(item, answer) + (f"\n  drawn on {drawn}" if drawn else ""))
    if out.as_json:
        out.result({"task": task, "answers": answers}, str)


def _generate(
    out: Output,
    pipe: Pipeline,
    prompts: Iterator[str],
    chat: bool,
    options: dict[str, Any],
    context: str | None,
) -> None:
    """Print what goes on from each prompt, or answers it, as it is written."""
    from edgetfm.runtime.tasks.text_to_text import NAMES

    answers = []
    for prompt in prompts:
        asked: Any = [{"role": "user", "content": prompt}] if chat else prompt
        with noted(out):
            stream = pipe.stream(asked if context is None else (asked, context), **options)
        with stream as s:
            say(out, s)
        tokens = {"prompt": s.prompt_tokens, "generated": len(s.tokens)}
        output = [{NAMES.get(pipe.task, "generated_text"): s.text}]
        answers.append({"input": prompt, "output": output, "tokens": tokens, "ended": s.reason})
    if out.as_json:
        out.result({"task": pipe.task, "answers": answers}, str)


def _text_in(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text ({error.reason})") from error
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}") from error


def _items(inputs: tuple[str, ...], whole: list[str]) -> Iterator[Any]:
    """The inputs in order, stdin's lines in the place of `-` and no empty ones; then files."""
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
    yield from whole
