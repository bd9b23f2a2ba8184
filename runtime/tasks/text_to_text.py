"""translation, summarization and text2text-generation: a text in, a text about it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgetfm.errors import InputError, listed
from edgetfm.runtime.tasks._texts import Asked

if TYPE_CHECKING:
    from edgetfm.runtime.generation.seq2seq_options import Seq2SeqOptions
    from edgetfm.runtime.generation.writer import Stream

Answer = dict[str, str]

NAMES = {
    "translation": "translation_text",
    "summarization": "summary_text",
    "text2text-generation": "generated_text",
}
"""Task -> what its answers are called, as in transformers' pipelines."""


def text_items(inputs: Any) -> tuple[list[str], bool]:
    """The texts, and whether a single one was given.

    A question and the text it is about, {"question", "context"} or a tuple of both, become one
    text as T5 was taught: https://arxiv.org/abs/1910.10683, appendix D.15.
    """
    single = isinstance(inputs, (str, tuple, Mapping))
    items = [inputs] if single else inputs
    if not isinstance(items, Sequence) or isinstance(items, bytes):
        raise InputError(f"expected a text or a list of texts, got {type(inputs).__name__}")
    texts = [_text(item) for item in items]
    problems = [
        f"item {i} is {type(items[i]).__name__}, expected a text, or a question and its context"
        for i, text in enumerate(texts)
        if text is None
    ]
    if problems:
        raise InputError(listed(problems))
    return [text for text in texts if text is not None], single


def _text(item: Any) -> str | None:
    if isinstance(item, str):
        return item
    if isinstance(item, Mapping) and set(item) == {"question", "context"}:
        item = (item["question"], item["context"])
    if isinstance(item, tuple) and len(item) == 2 and all(isinstance(p, str) for p in item):
        return f"question: {item[0]} context: {item[1]}"
    return None


def write_texts(
    asked: Asked,
    texts: Sequence[str],
    *,
    prefix: str | None = None,
    src_lang: str | None = None,
    tgt_lang: str | None = None,
    num_beams: int | None = None,
    length_penalty: float | None = None,
    early_stopping: bool | str | None = None,
    no_repeat_ngram_size: int | None = None,
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
    num_return_sequences: int = 1,
    max_length: int | None = None,
    batch_size: int = 1,
) -> list[Answer | list[Answer]]:
    """For each text {"translation_text" | "summary_text" | "generated_text": ...}.

    With `num_return_sequences` above 1 a list of them. prefix: what stands before each text, None
    is what the model's config says of the task. src_lang, tgt_lang: of a model that knows several
    languages, as it calls them. max_length: tokens that a text is cut at. The other options are
    those of edgetfm.runtime.generation.seq2seq_options, None leaves the model's own.
    """
    given = asked.seq2seq.defaults.among(locals())
    prepared, options, first = asked_of(asked, texts, prefix, src_lang, tgt_lang, given)
    if not texts:
        return []
    found = asked.seq2seq.write(
        prepared,
        options,
        forced_bos=first,
        max_length=max_length,
        batch_size=batch_size,
        answers=num_return_sequences,
    )
    name = NAMES[asked.model.bundle.manifest.task]
    answers = [[{name: row.text.strip()} for row in rows] for rows in found]
    return [rows if num_return_sequences > 1 else rows[0] for rows in answers]


def stream_text(
    asked: Asked,
    text: str,
    *,
    prefix: str | None = None,
    src_lang: str | None = None,
    tgt_lang: str | None = None,
    max_length: int | None = None,
    **given: Any,
) -> Stream:
    """The answer to one text as it is written; the options are those of `write_texts`."""
    texts, options, first = asked_of(asked, [text], prefix, src_lang, tgt_lang, given)
    return asked.seq2seq.stream(texts[0], options, forced_bos=first, max_length=max_length)


def asked_of(
    asked: Asked,
    texts: Sequence[str],
    prefix: str | None,
    src_lang: str | None,
    tgt_lang: str | None,
    given: Mapping[str, Any],
) -> tuple[list[str], Seq2SeqOptions, int | None]:
    """The texts with what stands before them, the options, and the answers' first token."""
    options = asked.seq2seq.defaults.changed(**given)
    before, first = _language(asked, src_lang, tgt_lang)
    before = before if prefix is None else prefix
    return [f"{before}{text}" for text in texts], options, first


def _language(asked: Asked, src: str | None, tgt: str | None) -> tuple[str, int | None]:
    """What says which languages are meant: text before the text, or the answer's first token."""
    task = asked.model.bundle.manifest.task
    known = asked.config.get("task_specific_params") or {}
    prefixes = {n: p["prefix"] for n, p in known.items() if isinstance(p, dict) and "prefix" in p}
    if src is None and tgt is None:
        own = [p for name, p in prefixes.items() if name == task]
        return (own[0] if own else ""), None
    if task != "translation":
        raise InputError(f"src_lang and tgt_lang are for translation, and this bundle does {task}")
    if tgt is None:
        raise InputError(
            f"src_lang (--from) is {src!r} and tgt_lang (--to) is not given: say into which "
            "language, too"
        )
    if (name := f"translation_{src}_to_{tgt}") in prefixes:
        return prefixes[name], None
    tokenizer = asked.preprocessor.text_encoder.tokenizer
    number_of, added = tokenizer.token_to_id, tokenizer.get_added_tokens_decoder()
    if tgt is not None and number_of(f">>{tgt}<<") is not None:  # Marian's, in the source
        return f">>{tgt}<< ", None
    number = None if tgt is None else number_of(tgt)
    if number in added:  # mBART's, in the answer; any other piece of the vocabulary is no language
        return "", number
    pairs = ", ".join(n.removeprefix("translation_") for n in prefixes if n.count("_") == 3)
    raise InputError(
        f"this model does not say how it translates from {src} to {tgt}"
        + (f"; it knows {pairs}" if pairs else ": leave out src_lang and tgt_lang")
    )
