"""How each task is measured on labelled data, one row each: columns, reader, metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgetfm.errors import DataError
from edgetfm.scoring.examples import (
    Example,
    Source,
    read_answer,
    read_class,
    read_pair,
    read_picture,
    read_sound,
    read_speech,
    read_tags,
    read_text,
)
from edgetfm.scoring.metrics import (
    accuracy,
    entity_f1,
    exact_match,
    spearman,
    word_error_rate,
    word_f1,
)
from edgetfm.tables import Row

if TYPE_CHECKING:
    from edgetfm.runtime.pipelines import Pipeline

BATCH = 8
"""Items a run: padding stays little, and memory too."""

MASK_EVERY = 7
"""For fill-mask one token in seven is hidden, about what such models were trained on."""


def _longest(pipe: Pipeline) -> int | None:
    """Asked for by number, the model's own limit cuts without a warning for each batch."""
    return pipe.preprocessor.text_encoder.max_length


def _measure_texts(pipe: Pipeline, examples: Sequence[Example]) -> dict[str, float]:
    found = pipe([e.asked for e in examples], batch_size=BATCH, max_length=_longest(pipe))
    return {"accuracy": accuracy([e.wanted for e in examples], [a["label"] for a in found])}


def _measure_first(pipe: Pipeline, examples: Sequence[Example]) -> dict[str, float]:
    found = pipe([e.asked for e in examples], batch_size=BATCH, top_k=1)
    return {"accuracy": accuracy([e.wanted for e in examples], [a[0]["label"] for a in found])}


def _measure_speech(pipe: Pipeline, examples: Sequence[Example]) -> dict[str, float]:
    """Sounds one at a time: they differ in length, and some models look at padding."""
    found = pipe([e.asked for e in examples])
    return {"wer": word_error_rate([e.wanted for e in examples], [a["text"] for a in found])}


def _measure_tags(pipe: Pipeline, examples: Sequence[Example]) -> dict[str, float]:
    """The label of a word is that of its first token; words that were cut off have none: O."""
    texts = [" ".join(e.asked) for e in examples]
    found = pipe(texts, ignore_labels=(), batch_size=BATCH, max_length=_longest(pipe))
    wanted = [e.wanted for e in examples]
    got = [_word_labels(e.asked, tokens) for e, tokens in zip(examples, found, strict=True)]
    right = accuracy([w for ws in wanted for w in ws], [g for gs in got for g in gs])
    spans = has_spans(pipe.asked.labels)
    return ({"f1": entity_f1(wanted, got)} if spans else {}) | {"accuracy": right}


def _word_labels(words: Sequence[str], tokens: Sequence[Mapping[str, Any]]) -> list[str]:
    labels = {}
    for token in reversed(tokens):
        labels[token["start"]] = token["entity"]
    starts = sorted(labels)
    got, at = [], 0
    for word in words:
        first = next((s for s in starts if at <= s < at + len(word)), None)
        got.append("O" if first is None else labels[first])
        at += len(word) + 1
    return got


def has_spans(labels: Sequence[str]) -> bool:
    """Whether labels begin and continue entities, so that entities can be counted."""
    return any(label.startswith("B-") or label.startswith("I-") for label in labels)


def _measure_answers(pipe: Pipeline, examples: Sequence[Example]) -> dict[str, float]:
    impossible = any("" in e.wanted for e in examples)
    found = pipe([e.asked for e in examples], batch_size=BATCH, handle_impossible_answer=impossible)
    answers = [a["answer"] if a else "" for a in found]
    pairs = list(zip([e.wanted for e in examples], answers, strict=True))
    return {
        "f1": float(np.mean([word_f1(w, g) for w, g in pairs])),
        "exact_match": float(np.mean([exact_match(w, g) for w, g in pairs])),
    }


def _measure_pairs(pipe: Pipeline, examples: Sequence[Example]) -> dict[str, float]:
    sides = [
        pipe([e.asked[side] for e in examples], batch_size=BATCH, max_length=_longest(pipe))
        for side in (0, 1)
    ]
    one, other = (np.asarray(s, np.float64) for s in sides)
    sizes = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosine = (one * other).sum(1) / np.where(sizes > 0, sizes, 1)
    return {"spearman": spearman(cosine, [e.wanted for e in examples])}


def _measure_masked(pipe: Pipeline, examples: Sequence[Example]) -> dict[str, float]:
    """exp of the mean loss at hidden tokens: which ones, a text's hash decides."""
    encoder = pipe.preprocessor.text_encoder
    mask = encoder.tokenizer.token_to_id(encoder.token("mask_token") or "")
    if mask is None:
        raise DataError("the tokenizer has no mask token, so nothing can be hidden and guessed")
    encodings = encoder.encode([e.asked for e in examples])
    losses: list[float] = []
    order = sorted(range(len(encodings)), key=lambda i: len(encodings[i]))
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        feeds = encoder.feeds([encodings[i] for i in chosen])
        ids = feeds["input_ids"].copy()
        places = [
            (row, p)
            for row, i in enumerate(chosen)
            for p, special in enumerate(encodings[i].special_tokens_mask)
            if not special and p % MASK_EVERY == examples[i].digest[-1] % MASK_EVERY
        ]
        if not places:
            continue
        rows, columns = np.array(places).T
        feeds["input_ids"][rows, columns] = mask
        logits = pipe.model.run(feeds)["logits"][rows, columns].astype(np.float64)
        top = logits.max(-1)
        total = top + np.log(np.exp(logits - top[:, None]).sum(-1))
        losses += (total - logits[np.arange(len(rows)), ids[rows, columns]]).tolist()
    if not losses:
        raise DataError("the texts are too short: no token was hidden")
    return {"perplexity": float(np.exp(np.mean(losses)))}


@dataclass(frozen=True)
class Measure:
    """A task's metric. `takes`: the data in words; `plain`: texts alone do."""

    metric: str
    takes: str
    read: Callable[[Source, Row], Example]
    measure: Callable[[Pipeline, Sequence[Example]], dict[str, float]]
    plain: bool = False


_TABLE = ".csv, .jsonl or .parquet"
MEASURES: dict[str, Measure] = {
    "text-classification": Measure(
        "accuracy", f"a {_TABLE} file with text and label", read_class, _measure_texts
    ),
    "image-classification": Measure(
        "accuracy",
        f"a folder LABEL/PICTURE, or a {_TABLE} file with image and label",
        read_picture,
        _measure_first,
    ),
    "audio-classification": Measure(
        "accuracy",
        f"a folder LABEL/SOUND, or a {_TABLE} file with audio and label",
        read_sound,
        _measure_first,
    ),
    "automatic-speech-recognition": Measure(
        "wer", f"a {_TABLE} file with audio and text", read_speech, _measure_speech
    ),
    "token-classification": Measure(
        "f1", "a .jsonl or .parquet file with tokens and labels", read_tags, _measure_tags
    ),
    "question-answering": Measure(
        "f1", f"a {_TABLE} file with question, context and answer", read_answer, _measure_answers
    ),
    "feature-extraction": Measure(
        "spearman",
        f"a {_TABLE} file with sentence1, sentence2 and score",
        read_pair,
        _measure_pairs,
    ),
    "fill-mask": Measure(
        "perplexity",
        f"a .txt file, a folder of them, or a {_TABLE} file with text",
        read_text,
        _measure_masked,
        plain=True,
    ),
}
"""Tasks that have a metric on labelled data, one row each."""
