"""The bar for language models is a probability, and better than one that counts less."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FILE = Path(__file__).parents[2] / "benchmarks" / "kneser_ney.py"


def _model() -> Any:
    spec = importlib.util.spec_from_file_location("benchmark_kneser_ney", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.KneserNey


KneserNey = _model()


@pytest.fixture(scope="module")
def documents() -> list[np.ndarray]:
    """Tokens that follow from the last two, but for one in five."""
    random = np.random.default_rng(0)
    made = []
    for _ in range(8):
        ids = [0, 1]
        for _ in range(3000):
            likely = (3 * ids[-1] + ids[-2]) % 12
            ids.append(int(random.integers(0, 12)) if random.random() < 0.2 else likely)
        made.append(np.array(ids))
    return made


@pytest.mark.parametrize("order", [1, 2, 4])
def test_all_tokens_together_are_certain(documents: list[np.ndarray], order: int) -> None:
    model = KneserNey(documents[:6], 12, order)
    for start in (0, 50, 700):
        before = documents[7][start : start + order - 1]
        together = sum(
            float(np.exp(model.log_probabilities(np.append(before, token))).sum())
            for token in range(12)
        )
        assert together == pytest.approx(1.0, abs=1e-9)


def test_what_follows_from_two_tokens_is_found(documents: list[np.ndarray]) -> None:
    perplexity = {
        order: np.exp(-KneserNey(documents[:6], 12, order).log_probabilities(documents[7]).mean())
        for order in (1, 2, 3)
    }
    assert perplexity[1] == pytest.approx(12, abs=0.5)
    # The entropy of a step: 0.8 + 0.2 / 12 for the likely token, 0.2 / 12 for each of the others.
    likely, other = 0.8 + 0.2 / 12, 0.2 / 12
    least = np.exp(-likely * np.log(likely) - 11 * other * np.log(other))
    assert 0.95 * least <= perplexity[3] <= 1.1 * least < perplexity[2]
