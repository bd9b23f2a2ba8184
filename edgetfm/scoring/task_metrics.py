"""How each task is measured on labelled data, one row each: columns, reader, metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgetfm.scoring.described import (
    measure_captions,
    measure_matches,
    read_caption,
    read_match,
    read_senses,
)
from edgetfm.scoring.examples import (
    BATCH,
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
    read_written,
)
from edgetfm.scoring.foretold import measure_foretold, measure_masked
from edgetfm.scoring.marks import measure_boxes, measure_masks, read_mask, read_things
from edgetfm.scoring.metrics import (
    accuracy,
    bleu,
    bleu_counts,
    entity_f1,
    exact_match,
    rouge_l,
    spearman,
    word_errors,
    word_f1,
)
from edgetfm.scoring.score import Score
from edgetfm.tables import Row

if TYPE_CHECKING:
    from edgetfm.runtime.pipelines import Pipeline


def _longest(pipe: Pipeline) -> int | None:
    """Asked for by number, the model's own limit cuts without a warning for each batch."""
    return pipe.preprocessor.text_encoder.max_length


def _measure_texts(pipe: Pipeline, examples: Sequence[Example]) -> dict[str, Score]:
    found = pipe([e.asked for e in examples], batch_size=BATCH, max_length=_longest(pipe))
    return {"accuracy": _right(examples, [a["label"] for a in found])}


def _measure_first(pipe: Pipeline, examples: Sequence[Example]) -> dict[str, Score]:
    found = pipe([e.asked for e in examples], batch_size=BATCH, top_k=1)
    return {"accuracy": _right(examples, [a[0]["label"] for a in found])}


def _right(examples: Sequence[Example], got: Sequence[object]) -> Score:
    """The share of answers that are the wanted ones."""
    return Score.mean(e.wanted == answer for e, answer in zip(examples, got, strict=True))


def _measure_speech(pipe: Pipeline, examples: Sequence[Example]) -> dict[str, Score]:
    """Sounds one at a time: they differ in length, and some models look at padding."""
    found = pipe([e.asked for e in examples])
    texts = [answer["text"] for answer in found]
    return {"wer": _of_pairs(word_errors, examples, texts)}


def _of_pairs(
    count: Callable[[str, str], tuple[float, ...]],
    examples: Sequence[Example],
    texts: Sequence[str],
    **total: Any,
) -> Score:
    """The metric that the counts of what is wanted and what was said give together."""
    pairs = zip(examples, texts, strict=True)
    return Score.of_counts([count(e.wanted, text) for e, text in pairs], **total)


def _measure_bleu(pipe: Pipeline, examples: Sequence[Example]) -> dict[str, Score]:
    return {"bleu": _of_pairs(bleu_counts, examples, _written(pipe, examples), total=bleu)}


def _measure_rouge(pipe: Pipeline, examples: Sequence[Example]) -> dict[str, Score]:
    pairs = zip(examples, _written(pipe, examples), strict=True)
    return {"rouge_l": Score.mean(rouge_l(e.wanted, text) for e, text in pairs)}


def _written(pipe: Pipeline, examples: Sequence[Example]) -> list[str]:
    found = pipe([e.asked for e in examples], batch_size=BATCH, max_length=_longest(pipe))
    return [text for answer in found for text in answer.values()]


def _measure_tags(pipe: Pipeline, examples: Sequence[Example]) -> dict[str, Score]:
    """The label of a word is that of its first token; words that were cut off have none: O."""
    texts = [" ".join(e.asked) for e in examples]
    found = pipe(texts, ignore_labels=(), batch_size=BATCH, max_length=_longest(pipe))
    wanted = [e.wanted for e in examples]
    got = [_word_labels(e.asked, tokens) for e, tokens in zip(examples, found, strict=True)]
    right = accuracy([w for ws in wanted for w in ws], [g for gs in got for g in gs])
    spans = has_spans(pipe.asked.labels)
    f1 = {"f1": Score(entity_f1(wanted, got))} if spans else {}
    return f1 | {"accuracy": Score(right)}


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


def _measure_answers(pipe: Pipeline, examples: Sequence[Example]) -> dict[str, Score]:
    impossible = any("" in e.wanted for e in examples)
    found = pipe([e.asked for e in examples], batch_size=BATCH, handle_impossible_answer=impossible)
    answers = [a["answer"] if a else "" for a in found]
    pairs = list(zip([e.wanted for e in examples], answers, strict=True))
    return {
        "f1": Score.mean(word_f1(w, g) for w, g in pairs),
        "exact_match": Score.mean(exact_match(w, g) for w, g in pairs),
    }


def _measure_pairs(pipe: Pipeline, examples: Sequence[Example]) -> dict[str, Score]:
    sides = [
        pipe([e.asked[side] for e in examples], batch_size=BATCH, max_length=_longest(pipe))
        for side in (0, 1)
    ]
    one, other = (np.asarray(s, np.float64) for s in sides)
    sizes = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosine = (one * other).sum(1) / np.where(sizes > 0, sizes, 1)
    return {"spearman": Score(spearman(cosine, [e.wanted for e in examples]))}


@dataclass(frozen=True)
class Measure:
    """A task's metric. `takes`: the data in words; `plain`: texts alone do."""

    metric: str
    takes: str
    read: Callable[[Source, Row], Example]
    measure: Callable[[Pipeline, Sequence[Example]], dict[str, Score]]
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
    "object-detection": Measure(
        "map50",
        "a .jsonl or .parquet file with file_name and objects: bbox and categories",
        read_things,
        measure_boxes,
    ),
    "image-segmentation": Measure(
        "mean_iou",
        f"a {_TABLE} file with file_name and mask_file_name",
        read_mask,
        measure_masks,
    ),
    "image-to-text": Measure(
        "bleu", f"a {_TABLE} file with image and text", read_caption, measure_captions
    ),
    "zero-shot-image-classification": Measure(
        "accuracy",
        f"a folder LABEL/PICTURE, or a {_TABLE} file with image, and text or label",
        read_match,
        measure_matches,
    ),
    "multimodal-classification": Measure(
        "accuracy",
        f"a {_TABLE} file with label, and any of text, image and audio",
        read_senses,
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
    "translation": Measure(
        "bleu", f"a {_TABLE} file with source and target", read_written, _measure_bleu
    ),
    "text2text-generation": Measure(
        "bleu", f"a {_TABLE} file with source and target", read_written, _measure_bleu
    ),
    "summarization": Measure(
        "rouge_l", f"a {_TABLE} file with source and target", read_written, _measure_rouge
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
        measure_masked,
        plain=True,
    ),
    "text-generation": Measure(
        "perplexity",
        f"a .txt file, a folder of them, or a {_TABLE} file with text",
        read_text,
        measure_foretold,
        plain=True,
    ),
}
"""Tasks that have a metric on labelled data, one row each."""
