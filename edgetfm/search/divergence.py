"""How far answers are from float32's, asked hundreds of times of the same texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgetfm.signature import Array, Feeds

Floats = NDArray[np.float32]


class Divergence:
    """The mean Kullback-Leibler divergence in nats of logits, from what is true.

    As in `parity.Measures`, in float32 and with what depends on the truth alone computed once.
    """

    def __init__(self, output: str, truth: Sequence[Feeds], feeds: Sequence[Feeds]) -> None:
        """`output`: the logits' name. Tokens that the feeds' attention mask hides do not count."""
        self._output = output
        self._masks = [np.asarray(f["attention_mask"], bool) for f in feeds]
        logs = [_log_softmax(self._rows(t, m)) for t, m in zip(truth, self._masks, strict=True)]
        self._likely = [np.exp(log) for log in logs]
        pairs = zip(self._likely, logs, strict=True)
        self._certainty = sum(float((p * log).sum(dtype=float)) for p, log in pairs)
        self._tokens = sum(len(log) for log in logs)

    def of(self, answers: Iterable[Feeds]) -> float:
        """Of the answers to the same feeds, in their order."""
        lost = self._certainty
        for likely, mask, answer in zip(self._likely, self._masks, answers, strict=True):
            lost -= float((likely * _log_softmax(self._rows(answer, mask))).sum(dtype=float))
        return lost / self._tokens

    def _rows(self, answer: Feeds, mask: Array) -> Floats:
        return np.asarray(answer[self._output][mask], np.float32)


def _log_softmax(rows: Floats) -> Floats:
    rows = rows - rows.max(-1, keepdims=True)
    return np.asarray(rows - np.log(np.exp(rows).sum(-1, keepdims=True)), np.float32)
