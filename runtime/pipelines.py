"""A bundle for people: texts and pictures in, answers in Hugging Face's form out."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgetfm.bundle import Bundle
from edgetfm.errors import BundleError, InputError
from edgetfm.runtime.model import Model, load
from edgetfm.runtime.preprocess import Preprocessor
from edgetfm.runtime.tasks import WAYS, Asked, captions, text_to_text, way_of
from edgetfm.task import OTHER

if TYPE_CHECKING:
    from edgetfm.runtime.generation.writer import Stream

TEXT_GENERATION = "text-generation"
STREAMED = (TEXT_GENERATION, *text_to_text.NAMES, captions.NAME)
"""The tasks whose answers can be had as they are written."""


@dataclass(frozen=True)
class Pipeline:
    """A loaded bundle that is called with what its task is about."""

    task: str
    asked: Asked

    @property
    def model(self) -> Model:
        """The model behind it."""
        return self.asked.model

    @property
    def preprocessor(self) -> Preprocessor:
        """What makes the model's inputs."""
        return self.asked.preprocessor

    def __call__(self, inputs: Any, /, **options: Any) -> Any:
        """The answer to one input, or a list of answers to a list of them.

        Options are those of the task's function in edgetfm.runtime.tasks, such as `top_k`,
        `batch_size` and, for texts, `max_length`. Raises InputError for other options and for
        inputs that are none.
        """
        way = way_of(self.task, self.asked)
        known = [
            p.name
            for p in inspect.signature(way.answer).parameters.values()
            if p.kind is p.KEYWORD_ONLY
        ]
        unknown = [name for name in options if name not in known]
        if unknown:
            raise InputError(f"{self.task} has no option {', '.join(unknown)}; it has {known}")
        items, single = way.items(inputs)
        answers = way.answer(self.asked, items, **options)
        if not single:
            return answers
        return [answers[0]] if way.wrap and isinstance(answers[0], Mapping) else answers[0]

    def stream(self, prompt: Any, /, **options: Any) -> Stream:
        """The answer to one prompt, a text, a chat or a picture, in pieces as they are written.

        Of bundles that write texts. Options are those of a call that say what is generated; the
        text comes without its prompt. A stream that is closed, or left by an exception, frees the
        memory of its cache.
        """
        if self.task not in STREAMED:
            names = ", ".join(STREAMED)
            raise InputError(f"this bundle does {self.task}: only {names} have a stream")
        items, single = WAYS[self.task].items(prompt)
        if not single:
            raise InputError("a stream answers one prompt: a text, a chat, or a picture")
        if self.task == captions.NAME:
            return captions.stream_caption(self.asked, items[0], **options)
        if self.task != TEXT_GENERATION:
            return text_to_text.stream_text(self.asked, items[0], **options)
        writer = self.asked.writer
        return writer.stream(items[0], writer.defaults.changed(**options))


def pipeline(path: str | os.PathLike[str], **load_options: Any) -> Pipeline:
    """The bundle at `path`, ready for its task; the options and errors are those of `load`."""
    model = load(path, **load_options)
    manifest = model.bundle.manifest
    if manifest.task == OTHER and not manifest.preprocessing:
        raise InputError(
            f"{path} takes arrays, which nobody told it to make of anything else: "
            f"edgetfm.load({os.fspath(path)!r}).run(...) with "
            f"{', '.join(map(str, model.signature.inputs))}"
        )
    if manifest.task not in WAYS:
        raise BundleError(f"this edgetfm has no pipeline for the task '{manifest.task}'")
    preprocessor = Preprocessor.from_folder(
        model.bundle.root, manifest.preprocessing, model.signature
    )
    return Pipeline(
        manifest.task, Asked(model, preprocessor, manifest.labels, _config(model.bundle))
    )


def _config(bundle: Bundle) -> Mapping[str, Any]:
    """The content of config.json; empty without one."""
    if "config.json" not in bundle.manifest.files:
        return {}
    try:
        data = json.loads(bundle.path("config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{bundle.root}/config.json is not JSON: {error}") from error
    return data if isinstance(data, Mapping) else {}
