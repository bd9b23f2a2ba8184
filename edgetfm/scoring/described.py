"""Labelled items of which words are a part: pictures and what is said of them, several senses."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgetfm.runtime.tasks.zero_shot_image import TEMPLATE
from edgetfm.scoring.examples import BATCH, Example, Source, file_of, text_in, value_in
from edgetfm.scoring.metrics import bleu, bleu_counts, exact_match
from edgetfm.scoring.score import Score
from edgetfm.tables import Row

if TYPE_CHECKING:
    from edgetfm.runtime.pipelines import Pipeline

SAID = ("text", "caption")


def read_caption(source: Source, row: Row) -> Example:
    """A picture and what should be written about it."""
    file, digest = file_of(source, row, "image", "file_name", "file")
    return Example(file, text_in(row, *SAID), digest)


def read_match(source: Source, row: Row) -> Example:
    """A picture and the text that is true of it; a label is put into the usual sentence."""
    file, digest = file_of(source, row, "image", "file_name", "file")
    if any(row.get(name) for name in SAID):
        return Example(file, text_in(row, *SAID), digest)
    try:
        label = str(value_in(row, "label")).strip()
    except KeyError:
        raise KeyError("'text' or 'label'") from None
    return Example(file, TEMPLATE.format(label), digest)


def read_senses(source: Source, row: Row) -> Example:
    """A text, a picture and a sound, at least one of them, and the label of all."""
    asked: dict[str, Any] = {}
    digest = hashlib.sha256()
    if row.get("text"):
        asked["text"] = text_in(row, "text")
        digest.update(asked["text"].encode())
    for sense in ("image", "audio"):
        if row.get(sense):
            asked[sense], of_file = file_of(source, row, sense, sense)
            digest.update(of_file)
    if not asked:
        raise KeyError("'text', 'image' or 'audio'")
    return Example(asked, source.label(value_in(row, "label")), digest.digest())


def measure_captions(pipe: Pipeline, examples: Sequence[Example]) -> dict[str, Score]:
    """BLEU, and the share of captions that are the wanted ones but for case and punctuation."""
    found = pipe([e.asked for e in examples], batch_size=BATCH)
    pairs = [
        (e.wanted, answer["generated_text"]) for e, answer in zip(examples, found, strict=True)
    ]
    return {
        "bleu": Score.of_counts([bleu_counts(*pair) for pair in pairs], total=bleu),
        "exact_match": Score.mean(exact_match((wanted,), text) for wanted, text in pairs),
    }


def measure_matches(pipe: Pipeline, examples: Sequence[Example]) -> dict[str, Score]:
    """The share of rows for whose picture a text of its own fits best, of all that are said.

    A picture in several rows has several texts: any of them is right.
    """
    texts = sorted({e.wanted for e in examples})
    own: dict[bytes, set[str]] = {}
    for e in examples:
        own.setdefault(e.digest, set()).add(e.wanted)
    found = pipe(
        [e.asked for e in examples],
        candidate_labels=texts,
        hypothesis_template="{}",
        top_k=1,
        batch_size=BATCH,
    )
    rows = zip(examples, found, strict=True)
    return {"accuracy": Score.mean(answer[0]["label"] in own[e.digest] for e, answer in rows)}
