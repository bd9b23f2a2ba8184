"""The options of `edgetfm run` for models of several senses: what is given of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from edgetfm.cli._verb import AnyText
from edgetfm.errors import InputError

Body = Callable[..., None]

TASK = "multimodal-classification"

_SENSES = {
    "text": "A text, of which a model of several senses is asked.",
    "image": "The path of a picture beside it.",
    "audio": "The path of a sound beside it.",
}


def sense_options(body: Body) -> Body:
    """The options of `run` that only models of several senses have."""
    for name, told in reversed(_SENSES.items()):
        kind = AnyText() if name == "text" else str
        body = click.option(f"--{name}", name, type=kind, help=told)(body)
    return body


def senses_of(options: Mapping[str, Any]) -> dict[str, str]:
    """What was given of each sense."""
    return {name: options[name] for name in _SENSES if options.get(name) is not None}


def check_senses(task: str, senses: Mapping[str, str], inputs: tuple[str, ...]) -> None:
    """An InputError for senses that a task does not have, and for none where it has several."""
    if task == TASK:
        if inputs:
            raise InputError(f"{task} takes no INPUT: give any of --text, --image and --audio")
        if not senses:
            raise InputError(f"{task} needs at least one of --text, --image and --audio")
    elif senses:
        named = ", ".join(f"--{name}" for name in senses)
        raise InputError(f"{named} is for {TASK}, and this bundle does {task}: give it as INPUT")
