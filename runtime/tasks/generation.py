"""text-generation: the text that goes on from a prompt, or the next message of a chat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgetfm.errors import InputError
from edgetfm.runtime.tasks._texts import Asked

if TYPE_CHECKING:
    from edgetfm.runtime.generation.rows import Row
    from edgetfm.runtime.generation.writer import Prompt


def prompt_items(inputs: Any) -> tuple[list[Prompt], bool]:
    """The prompts, and whether a single one was given."""
    from edgetfm.runtime.generation.writer import prompts

    return prompts(inputs)


def generate_texts(
    asked: Asked,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int | None = None,
    min_new_tokens: int | None = None,
    do_sample: bool | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float | None = None,
    stop_strings: str | Sequence[str] | None = None,
    seed: int | None = None,
    eos_token_id: int | Sequence[int] | None = None,
    prompt_lookup_num_tokens: int | None = None,
    max_matching_ngram_size: int | None = None,
    num_return_sequences: int = 1,
    return_full_text: bool = True,
    batch_size: int = 1,
) -> list[list[dict[str, Any]]]:
    """For each prompt a list of {"generated_text": ...}, one an answer that was asked for.

    A text comes with its prompt before it, a chat with the answer as its last message, or without
    them if `return_full_text` is False. The options are those of
    edgetfm.runtime.generation.options, None leaves the model's own.
    """
    writer = asked.writer
    options = writer.defaults.changed(**writer.defaults.among(locals()))
    if type(num_return_sequences) is not int or num_return_sequences < 1:
        raise InputError(f"num_return_sequences is {num_return_sequences!r}, it must be 1 or more")
    if num_return_sequences > 1 and not options.do_sample:
        raise InputError("several answers to one prompt need sampling: do_sample=True")
    answers = [
        [writer.row(prompt, options, number=n) for n in range(num_return_sequences)]
        for prompt in prompts
    ]
    writer.write([row for rows in answers for row in rows], batch_size=batch_size)
    return [
        [{"generated_text": _told(prompt, row, return_full_text)} for row in rows]
        for prompt, rows in zip(prompts, answers, strict=True)
    ]


def _told(prompt: Prompt, row: Row, full: bool) -> Any:
    from edgetfm.runtime.generation.writer import is_open

    if not full:
        return row.text
    if isinstance(prompt, str):
        return prompt + row.text
    if is_open(prompt):
        *before, last = prompt
        return [*before, {**last, "content": last["content"] + row.text}]
    return [*prompt, {"role": "assistant", "content": row.text}]
