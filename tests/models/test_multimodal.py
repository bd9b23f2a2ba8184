"""What is missing is not looked at, whatever stands in its place."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from edgetfm.errors import SourceError
from edgetfm.models.multimodal import FAMILY, SENSES, MultimodalConfig
from edgetfm.signature import Feeds
from edgetfm.sources import eager

TASK = FAMILY.tasks[0]
CONFIG = MultimodalConfig(
    image_size=(16, 16), patch_size=(8, 8), vocabulary=50, width=32, layers=2, text_layers=1,
    image_layers=1, audio_layers=1, heads=4, inner=64, mels=8, frames=10, labels=3, context=12,
)  # fmt: skip
INPUTS = {"text": ("input_ids",), "image": ("pixel_values",), "audio": ("input_features",)}


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    made = FAMILY.build(CONFIG, TASK).eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return made


def feeds_of(seed: int, batch: int = 2) -> Feeds:
    random = np.random.default_rng(seed)
    mask = np.ones((batch, 7), np.int64)
    mask[1:, 4:] = 0
    return {
        "input_ids": random.integers(0, CONFIG.vocabulary, (batch, 7)),
        "attention_mask": mask,
        "pixel_values": random.standard_normal((batch, 3, 16, 16), np.float32),
        "input_features": random.standard_normal((batch, CONFIG.mels, 20), np.float32),
        "senses_mask": np.ones((batch, 3), np.int64),
    }


@pytest.mark.parametrize("there", [c for c in product((0, 1), repeat=3) if 0 < sum(c) < 3])
def test_a_missing_sense_changes_nothing(there: tuple[int, ...], module: nn.Module) -> None:
    ask = eager(module)
    mask = np.array([there, there], np.int64)
    one, other = (feeds_of(seed) | {"senses_mask": mask} for seed in (1, 2))
    for present, sense in zip(there, SENSES, strict=True):
        if present:
            other |= {name: one[name] for name in INPUTS[sense]}
    np.testing.assert_allclose(ask(one)["logits"], ask(other)["logits"], atol=1e-5)
    whole = ask(one | {"senses_mask": np.ones((2, 3), np.int64)})
    assert np.abs(whole["logits"] - ask(one)["logits"]).max() > 1e-3, "what is there is looked at"


def test_rows_of_other_senses_are_no_neighbours(module: nn.Module) -> None:
    ask = eager(module)
    feeds = feeds_of(3) | {"senses_mask": np.array([[1, 0, 1], [0, 1, 0]], np.int64)}
    together = ask(feeds)["logits"]
    for row in range(2):
        alone = ask({name: array[row : row + 1] for name, array in feeds.items()})["logits"]
        np.testing.assert_allclose(alone[0], together[row], atol=1e-5)


def test_sizes_that_do_not_fit_are_refused() -> None:
    values = {**CONFIG.__dict__, "patch_size": (5, 8), "heads": 5, "channels": 2}
    with pytest.raises(SourceError, match=r"heads \(5\) does not divide width"):
        MultimodalConfig(**values)
