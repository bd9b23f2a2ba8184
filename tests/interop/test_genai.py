"""onnxruntime-genai writes a bundle's own greedy tokens, from the same folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetfm import load
from edgetfm.runtime.text import TextEncoder
from tests.decoders import DECODERS
from tests.interop.programs import HERE, run

LENGTH = 40


def greedy(bundle: Path, prompt: list[int]) -> list[int]:
    """The prompt and what follows it before an end, each token asked of the whole text before."""
    model = load(bundle)
    ends = model.bundle.manifest.generation["eos"]
    ids = list(prompt)
    while len(ids) < LENGTH:
        feeds = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, len(ids)), np.int64)}
        token = int(model.session.run(feeds)["logits"][0, -1].argmax())
        if token in ends:
            break
        ids.append(token)
    return ids


@pytest.mark.parametrize("model_type", DECODERS)
def test_greedy_tokens_are_the_bundles_own(
    model_type: str,
    tiny_decoder_bundle: Callable[..., Any],
    python_of: Callable[[str], Path],
    texts: list[str],
) -> None:
    bundle = tiny_decoder_bundle(model_type).bundle
    manifest = load(bundle).bundle.manifest
    encoder = TextEncoder(
        bundle,
        manifest.preprocessing["tokenizer"],
        manifest.components["model"].signature.of_whole_texts,
    )
    prompts = [encoder.ids(text)[: 3 + 4 * i] for i, text in enumerate(texts[:4])]
    asked = {"prompts": prompts, "text": texts[3], "length": LENGTH}
    answer = json.loads(run([python_of("onnxruntime-genai"), HERE / "in_genai.py", bundle],
                            given=asked))  # fmt: skip
    assert answer["written"] == [greedy(bundle, prompt) for prompt in prompts]
    assert answer["ids"] == encoder.ids(texts[3])
