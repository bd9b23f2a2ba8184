"""Prompts and chats in, text out: a decoder with its tokenizer, template and defaults."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Self

from edgetfm.errors import BundleError, InputError, listed
from edgetfm.runtime.generation.chat import ChatTemplate, Message, checked_messages, is_chat
from edgetfm.runtime.generation.decoder import Decoder
from edgetfm.runtime.generation.generator import Generator, Pieces
from edgetfm.runtime.generation.options import GenerationOptions
from edgetfm.runtime.generation.rows import Reason, Row
from edgetfm.runtime.generation.stream import Detokenizer
from edgetfm.runtime.model import Model
from edgetfm.runtime.text import TextEncoder

Prompt = str | Sequence[Message]
"""A text to go on from, or a chat whose next message is wanted."""


EXACT = ("fp32",)
"""Precisions in which guesses change no token: activations are not rounded."""


class Writer:
    """A bundle that generates text, ready to; `defaults` are the model's own options."""

    def __init__(self, model: Model, encoder: TextEncoder) -> None:
        self.encoder = encoder
        self.decoder = Decoder(model)
        self.generator = Generator(self.decoder)
        self._guesses_may_differ = model.precision not in EXACT
        self.text_of = Detokenizer(encoder.tokenizer)
        self.defaults = GenerationOptions.of_model(generation_config(model), eos=self.decoder.eos)

    @cached_property
    def template(self) -> ChatTemplate | None:
        """The model's chat template; None if it was not trained to chat."""
        return ChatTemplate.from_folder(self.encoder.folder)

    def ids(self, prompt: Prompt, **variables: Any) -> list[int]:
        """The tokens of a prompt: a chat's by the model's template, an empty text's is its start.

        A chat that ends with the assistant's message goes on with it. Raises InputError for what
        is no prompt, and for a chat where the model has no template.
        """
        if isinstance(prompt, str):
            ids = self.encoder.ids(prompt)
            return [self.decoder.bos] if not ids and self.decoder.bos is not None else ids
        messages = checked_messages(prompt)
        if self.template is None:
            raise InputError("this model has no chat template: give it a text to go on from")
        open_end = is_open(messages)
        text = self.template.render(
            messages,
            add_generation_prompt=not open_end,
            continue_final_message=open_end,
            **variables,
        )
        return self.encoder.ids(text, special_tokens=False)

    def row(
        self, prompt: Prompt, options: GenerationOptions, *, number: int = 0, **variables: Any
    ) -> Row:
        """An answer to be written. A UserWarning says, once, what its options cannot promise."""
        if options.prompt_lookup_num_tokens and self._guesses_may_differ:
            self._guesses_may_differ = False
            warnings.warn(
                f"guesses are checked by kernels that round differently from those of one token, "
                f"and {self.decoder.model.precision} makes that larger: where two tokens are about "
                "equally likely, the answer may not be the one without guesses",
                stacklevel=2,
            )
        completes = isinstance(prompt, str)
        ids = self.ids(prompt, **variables)
        return Row(ids, options, self.text_of, completes=completes, number=number)

    def write(self, rows: Sequence[Row], *, batch_size: int = 1) -> None:
        """Write the answers, `batch_size` rows at a time, rows of like length together."""
        if type(batch_size) is not int or batch_size < 1:
            raise InputError(f"batch_size is {batch_size!r:.60}, it must be a whole number from 1")
        # One at a time they keep their order, in which one prompt may start as the last did.
        in_order = list(rows) if batch_size == 1 else sorted(rows, key=lambda r: len(r.prompt))
        for start in range(0, len(in_order), batch_size):
            for _ in self.generator.write(in_order[start : start + batch_size]):
                pass

    def stream(self, prompt: Prompt, options: GenerationOptions, **variables: Any) -> Stream:
        """The answer to one prompt as it is written."""
        row = self.row(prompt, options, **variables)
        return Stream(row, self.generator.write([row]))


class Stream:
    """Pieces of an answer as they come: iterate, `stop()` it, or `close()` it and free its memory.

    text: what was said so far. reason: why it ended, None before. Left by an exception, it frees
    its memory; `stop` ends it with the next piece and keeps its cache for what comes next.
    """

    def __init__(self, row: Row, steps: Iterator[Pieces]) -> None:
        self._row = row
        self._steps = steps

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        while True:  # a token may complete no character
            piece = "".join(said for _, said in next(self._steps))
            if piece:
                return piece

    def stop(self) -> None:
        """End the answer after the token that is being written."""
        self._row.stop()

    def close(self) -> None:
        """End the answer and free its memory."""
        close = getattr(self._steps, "close", None)
        if close is not None:
            close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def text(self) -> str:
        """What was said so far."""
        return self._row.text

    @property
    def tokens(self) -> tuple[int, ...]:
        """The tokens so far."""
        return tuple(self._row.tokens)

    @property
    def prompt_tokens(self) -> int:
        """How many tokens the prompt has."""
        return len(self._row.prompt)

    @property
    def reason(self) -> Reason | None:
        """Why it ended: end, stop string, length, context, cancelled; None before."""
        return self._row.reason


def is_open(messages: Sequence[Message]) -> bool:
    """Whether the last message is an answer's start, to be gone on with."""
    return bool(messages) and messages[-1]["role"] == "assistant"


def prompts(inputs: Any) -> tuple[list[Prompt], bool]:
    """The prompts, and whether a single one was given: texts and chats, or a list of them."""
    if isinstance(inputs, str) or is_chat(inputs):
        return [inputs if isinstance(inputs, str) else checked_messages(inputs)], True
    if not isinstance(inputs, Sequence) or isinstance(inputs, bytes):
        raise InputError(
            "expected a text, a chat (a list of messages), or a list of these, got "
            f"{type(inputs).__name__}"
        )
    problems = [
        f"prompt {i} is {type(item).__name__}, expected a text or a chat"
        for i, item in enumerate(inputs)
        if not (isinstance(item, str) or is_chat(item))
    ]
    if problems:
        raise InputError(listed(problems))
    return [item if isinstance(item, str) else checked_messages(item) for item in inputs], False


def generation_config(model: Model) -> dict[str, Any]:
    """What generation_config.json says; {} without one."""
    name = "generation_config.json"
    if name not in model.bundle.manifest.files:
        return {}
    try:
        data = json.loads(model.bundle.path(name).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{model.bundle.root}/{name} is not JSON: {error}") from error
    return data if isinstance(data, dict) else {}
