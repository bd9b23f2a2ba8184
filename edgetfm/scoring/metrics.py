"""The metrics that people judge a task by: numbers and texts in, one number out."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Entity = tuple[int, int, str]
"""First word, last word, type."""


def drop(before: float, after: float, higher_is_better: bool) -> float:
    """The share of `before` that is lost: 0.01 where accuracy 0.9 became 0.891, or perplexity 10
    became 10.1. Negative is a gain. What became no number lost everything: infinity.
    """
    if not math.isfinite(before) or not math.isfinite(after):
        return math.inf
    lost = before - after if higher_is_better else after - before
    if lost == 0:
        return 0.0
    return lost / abs(before) if before else math.copysign(math.inf, lost)


def accuracy(wanted: Sequence[object], got: Sequence[object]) -> float:
    """The share of answers that are the wanted ones."""
    return sum(w == g for w, g in zip(wanted, got, strict=True)) / len(wanted)


def entities(labels: Sequence[str]) -> set[Entity]:
    """The entities in the labels of a sentence, as the script of CoNLL-2000 counts them.

    B- and S- begin one, and so does another type or anything after O, E- or S-: an I- alone
    counts. So seqeval does without its strict mode.
    """
    found: set[Entity] = set()
    start, kind = 0, ""
    previous = "O"
    for place, label in enumerate([*labels, "O"]):
        prefix, _, name = label.partition("-")
        name = "" if label == "O" else name or prefix
        if kind and (previous in "ESLU" or prefix in "BSU" or name != kind):
            found.add((start, place - 1, kind))
            kind = ""
        if name and not kind:
            start, kind = place, name
        previous = prefix
    return found


def entity_f1(wanted: Sequence[Sequence[str]], got: Sequence[Sequence[str]]) -> float:
    """F1 over the entities of all sentences (micro): right is one with the same words and type.

    1 where there are none to find and none are found.
    """
    sets = [(entities(w), entities(g)) for w, g in zip(wanted, got, strict=True)]
    right = sum(len(w & g) for w, g in sets)
    total = sum(len(w) + len(g) for w, g in sets)
    return 2 * right / total if total else 1.0


def normalized(answer: str) -> str:
    """An answer as the official script of SQuAD (v1.1 and 2.0) compares it.

    Lower case, no punctuation, no articles, single spaces. Rajpurkar et al., SQuAD: 100,000+
    Questions for Machine Comprehension of Text, 2016.
    """
    bare = "".join(c for c in answer.lower() if c not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def exact_match(wanted: Sequence[str], got: str) -> float:
    """1 if the answer is one of the wanted ones, normalized; else 0."""
    return float(normalized(got) in {normalized(answer) for answer in wanted})


def word_f1(wanted: Sequence[str], got: str) -> float:
    """The largest F1 of the answer's words and those of a wanted answer, as SQuAD counts it."""
    return max(_word_f1(normalized(answer).split(), normalized(got).split()) for answer in wanted)


def _word_f1(wanted: list[str], got: list[str]) -> float:
    if not wanted or not got:  # no answer is right where there is none
        return float(wanted == got)
    same = (Counter(wanted) & Counter(got)).total()
    return 2 * same / (len(wanted) + len(got))


def word_error_rate(wanted: Sequence[str], got: Sequence[str]) -> float:
    """Words inserted, left out and mistaken over all wanted words, of all texts together.

    The least of them that make one text of the other (Levenshtein). Upper and lower case are the
    same, and of punctuation only apostrophes count: models of speech write neither.
    """
    pairs = [(_spoken(w), _spoken(g)) for w, g in zip(wanted, got, strict=True)]
    words = sum(len(w) for w, _ in pairs)
    return sum(_edits(w, g) for w, g in pairs) / words if words else math.nan


def _spoken(text: str) -> list[str]:
    return re.sub(r"[^\w\s']|_", " ", text.casefold()).split()


def _edits(wanted: Sequence[str], got: Sequence[str]) -> int:
    row = list(range(len(got) + 1))
    for i, word in enumerate(wanted, 1):
        before, row[0] = row[0], i
        for j, heard in enumerate(got, 1):
            mistaken = before + (word != heard)
            before, row[j] = row[j], min(mistaken, row[j] + 1, row[j - 1] + 1)
    return row[-1]


def spearman(one: ArrayLike, other: ArrayLike) -> float:
    """Spearman's rank correlation, ties with their mean rank; NaN if one side is constant."""
    ranks = [_ranks(np.asarray(side, np.float64)) for side in (one, other)]
    centred = [r - r.mean() for r in ranks]
    size = float(np.prod([np.linalg.norm(r) for r in centred]))
    return float(centred[0] @ centred[1] / size) if size else math.nan


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    if not np.isfinite(values).all():
        return np.zeros(len(values))
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[place], np.float64)
