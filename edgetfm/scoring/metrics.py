"""The metrics that people judge a task by: numbers and texts in, one number out."""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetfm.errors import MissingExtra

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
    pairs = [word_errors(w, g) for w, g in zip(wanted, got, strict=True)]
    words = sum(count for _, count in pairs)
    return sum(errors for errors, _ in pairs) / words if words else math.nan


def word_errors(wanted: str, got: str) -> tuple[int, int]:
    """The errors in one text, as `word_error_rate` counts them, and its wanted words."""
    words = _spoken(wanted)
    return _edits(words, _spoken(got)), len(words)


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


def rouge_l(wanted: str, got: str) -> float:
    """F1 of the longest run of words, with gaps, that both texts have in this order.

    Words are runs of letters and digits in lower case, not stemmed: those of the official script,
    and of every other script too. Where nothing was wanted, nothing is right.
    Lin, ROUGE: A Package for Automatic Evaluation of Summaries, 2004,
    https://aclanthology.org/W04-1013.
    """
    one, other = (re.findall(r"[^\W_]+", text.casefold()) for text in (wanted, got))
    row = [0] * (len(other) + 1)
    for word in one:
        before = 0
        for j, said in enumerate(other, 1):
            before, row[j] = row[j], before + 1 if word == said else max(row[j], row[j - 1])
    return 2 * row[-1] / (len(one) + len(other)) if one or other else 1.0


def bleu_counts(wanted: str, got: str) -> tuple[float, ...]:
    """What a pair adds to BLEU: words said and wanted, runs of 1 to 4 words found, and said.

    Words as sacrebleu takes them apart. Raises MissingExtra without it.
    """
    found = _sacrebleu()(effective_order=True).sentence_score(got, [wanted])  # it only counts here
    return (found.sys_len, found.ref_len, *found.counts, *found.totals)


def bleu(sums: NDArray[np.float64]) -> float:
    """BLEU from 0 to 100 of a corpus by the sums of `bleu_counts`, as sacrebleu has it.

    Papineni et al., BLEU, 2002, https://aclanthology.org/P02-1040; Post, A Call for Clarity in
    Reporting BLEU Scores, 2018, https://aclanthology.org/W18-6319 (nrefs:1, case:mixed, tok:13a,
    smooth:exp).
    """
    said, meant, *runs = (int(count) for count in sums)
    score = _sacrebleu().compute_bleu(runs[:4], runs[4:], said, meant, smooth_method="exp").score
    return float(score)


def _sacrebleu() -> Any:
    try:
        from sacrebleu.metrics import BLEU
    except ImportError as error:
        raise MissingExtra("eval", "BLEU") from error
    return BLEU


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
