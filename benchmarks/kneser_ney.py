"""The bar for a language model: a modified Kneser-Ney model of n-grams over the same tokens.

    python benchmarks/kneser_ney.py runs/gpt

The perplexity on the test part of a checkpoint of `edgetfm train`, in windows of `length` tokens as
metrics.json says it, and of the n-grams of its own training part, which are read on without end.

Chen and Goodman 1998, "An empirical study of smoothing techniques for language modeling":
interpolated, three discounts an order, counted from the counts of counts. Counts of the orders
below the highest are of distinct tokens before an n-gram.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
ORDER = 5


def main() -> None:
    from edgetfm.training.config import TrainConfig
    from edgetfm.training.objectives.causal import Causal

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("checkpoint", type=Path, help="of a complete training, gpt-shakespeare's")
    parser.add_argument("--order", type=int, default=ORDER)
    options = parser.parse_args()
    said = json.loads((options.checkpoint / "metrics.json").read_text(encoding="utf-8"))
    learned = Causal(TrainConfig.from_dict(said["config"]))
    bar = KneserNey([learned.ids["train"]], learned.tokenizer.vocabulary, options.order)
    found = math.exp(-bar.log_probabilities(learned.ids["test"]).mean())
    print(f"{learned.tokenizer.vocabulary} tokens, {len(learned.ids['test'])} of them in the test")
    print(f"{options.order}-grams     {found:.3f}")
    print(f"checkpoint  {said['test_perplexity']:.3f}")


@dataclass(frozen=True)
class _Order:
    """All n-grams of one order, each as one number in ascending order, and those before them."""

    grams: Ids
    share: NDArray[np.float64]  # (count - discount) / count of the context
    contexts: Ids
    back_off: NDArray[np.float64]  # what a context leaves to the order below


class KneserNey:
    """The model of `order`-grams of documents of token ids below `vocabulary`."""

    def __init__(self, documents: list[Ids], vocabulary: int, order: int = ORDER) -> None:
        if vocabulary**order >= 2**63:
            raise ValueError(f"{vocabulary} tokens to the power of {order} do not fit in 64 bits")
        self.vocabulary, self.order = vocabulary, order
        grams, counts = np.unique(
            np.concatenate([_windows(ids, order, vocabulary) for ids in documents]),
            return_counts=True,
        )
        self.orders: list[_Order] = []
        for n in range(order, 0, -1):
            self.orders.append(_discounted(grams, counts, vocabulary))
            # Without its first token: how many different ones stood before it. A document's
            # first tokens have nothing before them and are left out, as one in thousands.
            grams, counts = np.unique(grams % vocabulary ** (n - 1), return_counts=True)

    def log_probabilities(self, ids: Ids) -> NDArray[np.float64]:
        """The natural logarithm of each token's probability after those before it.

        The first `order` - 1 tokens are only looked back at.
        """
        windows = _windows(ids, self.order, self.vocabulary)
        p = np.full(len(windows), 1.0 / self.vocabulary)
        for n, level in enumerate(reversed(self.orders), start=1):
            grams = windows % self.vocabulary**n
            share, _ = _looked_up(level.grams, level.share, grams, 0.0)
            left, seen = _looked_up(level.contexts, level.back_off, grams // self.vocabulary, 1.0)
            p = np.where(seen, share + left * p, p)
        return np.log(p)


def _windows(ids: Ids, order: int, vocabulary: int) -> Ids:
    """Each run of `order` tokens as one number, its first token the largest digit."""
    count = max(0, len(ids) - order + 1)
    total = np.zeros(count, np.int64)
    for i in range(order):
        total = total * vocabulary + ids[i : i + count]
    return total


def _discounted(grams: Ids, counts: Ids, vocabulary: int) -> _Order:
    many = [int((counts == i).sum()) for i in (1, 2, 3, 4)]
    discounts = np.array([0.0, 0.5, 1.0, 1.5])  # as KenLM where too few are rare to count by
    if min(many):
        y = many[0] / (many[0] + 2 * many[1])
        discounts[1:] = [i - (i + 1) * y * many[i] / many[i - 1] for i in (1, 2, 3)]
    taken = discounts[np.minimum(counts, 3)]
    contexts, place = np.unique(grams // vocabulary, return_inverse=True)
    total = np.bincount(place, counts)
    return _Order(
        grams, (counts - taken) / total[place], contexts, np.bincount(place, taken) / total
    )


def _looked_up(
    keys: Ids, values: NDArray[np.float64], wanted: Ids, missing: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found = keys[place] == wanted
    return np.where(found, values[place], missing), found


if __name__ == "__main__":
    main()
