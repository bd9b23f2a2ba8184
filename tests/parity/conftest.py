from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from edgetfm.signature import Feeds
from edgetfm.sources import Source

SHAPES = ((1, 1), (1, 128), (3, 17), (8, 64))


def _ragged(source: Source) -> Iterator[Feeds]:
    for batch, sequence in SHAPES:
        seed = hashlib.sha256(f"{source.name} {batch} {sequence}".encode()).digest()
        rng = np.random.default_rng(list(seed))
        inputs = source.signature.inputs
        if inputs[0].name == "pixel_values":
            yield {"pixel_values": rng.normal(size=(batch, *inputs[0].shape[1:])).astype("f4")}
            continue
        lengths = rng.integers(1, sequence + 1, size=(batch, 1))
        lengths[0] = sequence
        mask = (np.arange(sequence)[None] < lengths).astype(np.int64)
        ids = rng.integers(5, source.config.vocabulary, size=(batch, sequence))
        all_feeds = {
            "input_ids": np.where(mask == 1, ids, source.config.pad_token_id),
            "attention_mask": mask,
            "token_type_ids": rng.integers(0, 2, size=(batch, sequence)) * mask,
        }
        yield {spec.name: all_feeds[spec.name] for spec in inputs}


@pytest.fixture(scope="session")
def ragged() -> Callable[[Source], Iterator[Feeds]]:
    """ragged(source): batches of random inputs at SHAPES; every row of texts has its own length."""
    return _ragged
