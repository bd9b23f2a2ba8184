"""A captioner's two graphs write what the whole does, however a caption is cut into steps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgetfm.errors import SourceError
from edgetfm.models.captioner import FAMILY, CaptionerConfig
from edgetfm.models.vit import FAMILY as VIT
from edgetfm.sources import eager

TASK = FAMILY.tasks[0]
CONFIG = CaptionerConfig(
    image_size=(16, 24), patch_size=(8, 8), vocabulary=60, width=32, layers=1, decoder_layers=2,
    heads=4, decoder_heads=4, inner=64, decoder_inner=48, context=12,
)  # fmt: skip

STEMMED = replace(CONFIG, stem=8, widths=(8, 16), depths=(1, 1))


@pytest.mark.parametrize("c", [CONFIG, STEMMED])
def test_steps_write_what_the_whole_does(c: CaptionerConfig) -> None:
    torch.manual_seed(0)
    module = FAMILY.build(c, TASK).eval()
    random = np.random.default_rng(0)
    pixels = random.standard_normal((2, 3, 16, 24), np.float32)
    ids = random.integers(0, c.vocabulary, (2, 9))
    whole = eager(module)({"pixel_values": pixels, "decoder_input_ids": ids})["logits"]
    encoder, decoder = (eager(stage.part(module)) for stage in FAMILY.stages)
    hidden = encoder({"pixel_values": pixels})["last_hidden_state"]
    assert hidden.shape == (2, c.encoder_context, c.width)
    specs = FAMILY.stages[1].inputs(c, TASK)
    past = {
        t.name: np.zeros((2, int(t.shape[1]), 0, int(t.shape[3])), np.float32)
        for t in specs
        if len(t.shape) == 4
    }
    found, start = [], 0
    for end in (4, 5, 9):
        answer = decoder(
            {
                "input_ids": ids[:, start:end],
                "encoder_hidden_states": hidden,
                **past,
                "use_cache_branch": np.array([start > 0]),
            }
        )
        found.append(answer["logits"])
        for name in past:
            kept = answer[name.replace("past_key_values", "present")]
            if start == 0 or ".decoder." in name:
                past[name] = kept
        start = end
    np.testing.assert_allclose(np.concatenate(found, axis=1), whole, atol=1e-5)


def test_its_encoder_is_a_vit() -> None:
    vit = VIT.build(CONFIG.reader, "image-feature-extraction")
    ours = FAMILY.build(CONFIG, TASK).encoder.vit
    assert {n: w.shape for n, w in vit.state_dict().items()} == {
        n: w.shape for n, w in ours.state_dict().items()
    }


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"patch_size": (5, 8)}, "does not divide image_size"),
        ({"decoder_heads": 8}, "multiples of 8"),
        ({"channels": 2}, "channels is 2"),
        ({"context": 0}, "context is 0"),
        ({"widths": (8, 16)}, r"depths is \(\), expected at least 1"),
        (
            {"widths": (8, 16, 16), "depths": (1, 1, 1)},
            "patch_size is .*, expected multiples of 16",
        ),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changed: dict[str, object], said: str) -> None:
    with pytest.raises(SourceError, match=said):
        CaptionerConfig(**{**CONFIG.__dict__, **changed})
