"""What the search for decoders asks its board about."""

from __future__ import annotations

import numpy as np
import pytest

from edgetfm.search.decoders import TUNING_ELEMENTS, TUNING_TOKENS, tuning_items
from edgetfm.signature import Feeds


def texts(count: int, tokens: int = 128, batch: int = 4) -> list[Feeds]:
    """Batches of texts whose ids are all the number of the text."""
    ids = np.repeat(np.arange(count)[:, None], tokens, axis=1)
    parts = [ids[i : i + batch] for i in range(0, count, batch)]
    return [{"input_ids": part, "attention_mask": np.ones_like(part)} for part in parts]


@pytest.mark.parametrize(
    ("vocabulary", "tokens"),
    [(330, TUNING_TOKENS), (49152, TUNING_TOKENS), (1 << 18, TUNING_ELEMENTS >> 18)],
)
def test_losses_are_measured_on_texts_from_all_over(vocabulary: int, tokens: int) -> None:
    found = tuning_items(texts(75), vocabulary)
    assert sum(feeds["input_ids"].size for feeds in found) == tokens
    numbers = [int(feeds["input_ids"][0, 0]) for feeds in found]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 0
    assert len(found) == 1 or numbers[-1] >= 75 // 2


def test_one_text_is_the_least() -> None:
    (only,) = tuning_items(texts(2, tokens=1000), 1 << 20)
    assert only["input_ids"].shape == (1, 1000)
