"""question-answering: the part of a context that answers a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edgetfm.errors import InputError, listed
from edgetfm.runtime.tasks._texts import Asked, check_top_k, run_encodings, softmax
from edgetfm.signature import Array

if TYPE_CHECKING:
    from tokenizers import Encoding

Answer = dict[str, Any]


def qa_items(inputs: Any) -> tuple[list[tuple[str, str]], bool]:
    """Pairs (question, context), and whether a single one was given.

    A pair is a tuple or {"question": ..., "context": ...}.
    """
    single = isinstance(inputs, (Mapping, tuple))
    if not single and not isinstance(inputs, list):
        raise InputError(
            "question-answering takes (question, context), {'question': ..., 'context': ...}, "
            f"or a list of them, not {type(inputs).__name__}"
        )
    pairs: list[tuple[str, str]] = []
    problems = []
    for i, item in enumerate([inputs] if single else inputs):
        if isinstance(item, Mapping) and set(item) == {"question", "context"}:
            item = (item["question"], item["context"])
        fits = isinstance(item, (tuple, list)) and len(item) == 2
        if fits and all(isinstance(t, str) and t.strip() for t in item):
            pairs.append((item[0], item[1]))
        else:
            problems.append(f"item {i} is not a question and a context, both with text: {item!r}")
    if problems:
        raise InputError(listed(problems))
    return pairs, single


def answer_questions(
    asked: Asked,
    pairs: Sequence[tuple[str, str]],
    *,
    top_k: int = 1,
    max_answer_length: int = 15,
    doc_stride: int = 128,
    handle_impossible_answer: bool = False,
    batch_size: int = 1,
    max_length: int | None = 384,
) -> list[Any]:
    """For each pair {"answer", "score", "start", "end"}, or a list of `top_k` > 1 of them.

    A context longer than max_length is read in windows that share `doc_stride` tokens. score is
    the probability of the start times that of the end, within a window. start and end count
    characters of the context; an answer spans whole words and at most max_answer_length tokens.
    handle_impossible_answer: "" may win, for models trained with questions without an answer.
    """
    check_top_k(top_k)
    encoder = asked.preprocessor.text_encoder
    length = min((n for n in (max_length, encoder.max_length) if n is not None), default=384)
    answers = []
    for question, context in pairs:
        (first,) = encoder.encode(
            [(question, context)],
            max_length=length,
            stride=_stride(asked, question, length, doc_stride),
            truncate="only_second",
        )
        found: list[Answer] = []
        nothing = 1.0
        windows = [first, *first.overflowing]
        for _, window, outputs in run_encodings(asked, windows, batch_size=batch_size):
            spans, impossible = _spans(
                window, outputs["start_logits"], outputs["end_logits"], top_k, max_answer_length
            )
            nothing = min(nothing, impossible)
            found += [_answer(window, context, *span) for span in spans]
        if handle_impossible_answer:
            found.append({"answer": "", "score": nothing, "start": 0, "end": 0})
        best = _distinct(sorted(found, key=lambda a: -a["score"]))[:top_k]
        answers.append(best[0] if top_k == 1 and best else best)
    return answers


def _stride(asked: Asked, question: str, length: int, wanted: int) -> int:
    """The wanted stride, or half of what the question leaves to the context."""
    tokenizer = asked.preprocessor.text_encoder.tokenizer
    special = tokenizer.num_special_tokens_to_add(True)
    left = length - special - len(tokenizer.encode(question, add_special_tokens=False))
    if left < 2:
        raise InputError(
            f"the question leaves no room for its context: together they may have {length} tokens"
        )
    return min(wanted, left // 2)


def _spans(
    window: Encoding, start_logits: Array, end_logits: Array, top_k: int, longest: int
) -> tuple[list[tuple[int, int, float]], float]:
    """The likeliest spans as (first token, last token, probability), and that of none."""
    context = np.array([s == 1 for s in window.sequence_ids])
    allowed = context.copy()
    allowed[0] = True  # the first token stands for 'no answer' and shares in the probability
    start = softmax(np.where(allowed, start_logits, -1e4))
    end = softmax(np.where(allowed, end_logits, -1e4))
    impossible = float(start[0] * end[0])
    products = np.triu(np.outer(np.where(context, start, 0), np.where(context, end, 0)))
    products = np.tril(products, longest - 1)
    best = np.argsort(-products, axis=None, kind="stable")[:top_k]
    pairs = [divmod(int(i), len(window)) for i in best]
    return [(s, e, float(products[s, e])) for s, e in pairs if products[s, e] > 0], impossible


def _answer(window: Encoding, context: str, first: int, last: int, score: float) -> Answer:
    """The answer with its first and last word made whole."""
    words = window.token_to_word(first), window.token_to_word(last)
    ends = [window.word_to_chars(w, 1) if w is not None else None for w in words]
    start = ends[0][0] if ends[0] else window.offsets[first][0]
    end = ends[1][1] if ends[1] else window.offsets[last][1]
    return {"answer": context[start:end], "score": score, "start": start, "end": end}


def _distinct(answers: list[Answer]) -> list[Answer]:
    """Each place once, with its best score: windows overlap, and words have several tokens."""
    seen: dict[tuple[int, int], Answer] = {}
    for answer in answers:
        seen.setdefault((answer["start"], answer["end"]), answer)
    return list(seen.values())
