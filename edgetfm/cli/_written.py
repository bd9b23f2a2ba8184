"""The options of `edgetfm run` for texts about a source: a text, a sound or a picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from edgetfm.cli._generation import chosen, refuse
from edgetfm.errors import InputError

if TYPE_CHECKING:
    from edgetfm.runtime import Pipeline

Body = Callable[..., None]

TEXTS = ("translation", "summarization", "text2text-generation")
SPEECH = "automatic-speech-recognition"
CAPTION = "image-to-text"

_Row = tuple[tuple[str, ...], str, dict[str, Any]]

_OPTIONS: dict[str, _Row] = {
    "num_beams": (
        (*TEXTS, SPEECH, CAPTION),
        "--beams",
        {"type": int, "metavar": "N", "help": "Search with N answers at once for the likeliest."},
    ),
    "src_lang": (
        ("translation",),
        "--from",
        {"metavar": "LANGUAGE", "help": "Of a model of several languages, as it calls them."},
    ),
    "tgt_lang": (("translation",), "--to", {"metavar": "LANGUAGE", "help": "The same."}),
    "language": (
        (SPEECH,),
        "--language",
        {"help": "That is spoken, such as de; a model of several hears it if none is named."},
    ),
    "return_timestamps": (
        (SPEECH,),
        "--timestamps",
        {"is_flag": True, "default": None, "help": "Say when each part of speech was said."},
    ),
}
"""Option of a task -> its tasks, what the command line calls it, and how click reads it."""

_OF_SPEECH = ("max_new_tokens", "temperature", "seed")
_OF_CAPTIONS = (*_OF_SPEECH, "top_k", "top_p")
_NOT_OF_TEXTS = ("prompt_lookup_num_tokens", "chat")


def written_options(body: Body) -> Body:
    """The options of `run` that only texts about a source have."""
    for name, (_, flag, settings) in reversed(_OPTIONS.items()):
        body = click.option(flag, name, **settings)(body)
    return body


def given_of(pipe: Pipeline, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a pipeline is told of the options that were given; InputError for those of no use."""
    task, writes = pipe.task, bool(pipe.model.bundle.manifest.generation)
    own = {name: value for name in _OPTIONS if (value := options.get(name)) is not None}
    for name in own:
        tasks, flag, _ = _OPTIONS[name]
        if not writes or task not in tasks:
            raise InputError(f"{flag} is for {' and '.join(tasks)}, and this bundle does {task}")
    general = chosen(options)
    refuse({name: v for name, v in general.items() if not _fits(name, task, writes)}, task)
    return {**general, **own}


def _fits(name: str, task: str, writes: bool) -> bool:
    """Whether an option of generation means something to a task."""
    if task in (SPEECH, CAPTION):
        return writes and name in (_OF_SPEECH if task == SPEECH else _OF_CAPTIONS)
    return task == "text-generation" or (task in TEXTS and name not in _NOT_OF_TEXTS)


def chunk_lines(answer: Mapping[str, Any]) -> list[str]:
    """What was said and when, a line each: [00:01.00 -> 00:02.50] text."""
    return [
        f"[{_clock(c['timestamp'][0])} -> {_clock(c['timestamp'][1])}] {c['text'].strip()}"
        for c in answer["chunks"]
    ]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return (f"{hours}:" if hours else "") + f"{minutes:02}:{rest:05.2f}"
