"""A real model writes the same whatever the batch, the cache and the guesses: SmolLM2-135M."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetfm.bundle import BundleWriter, open_bundle
from edgetfm.graphs import read_graph, write_graph
from edgetfm.manifest import Component, Variant
from edgetfm.quantize.apply import quantize_graph
from edgetfm.quantize.recipes import RECIPES
from edgetfm.runtime import Pipeline, pipeline
from edgetfm.runtime.generation.decoder import Binding
from tests.plain import export_plain

pytestmark = pytest.mark.slow

REPORT = (
    "The quarterly report says that sales in the northern region rose by 12 percent, while sales "
    "in the southern region fell by 3 percent because of the storm."
)


@pytest.fixture(scope="module")
def fp32(smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_plain(smollm2_folder, tmp_path_factory.mktemp("smollm2") / "fp32").bundle


@pytest.fixture(scope="module")
def pipes(fp32: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pipeline]:
    """pipes(precision): the model in fp32, int8-weight or int4."""
    made: dict[str, Pipeline] = {}

    def get(precision: str) -> Pipeline:
        if precision not in made:
            folder = fp32
            if precision != "fp32":
                folder = tmp_path_factory.mktemp("smollm2") / precision
                _quantized(fp32, folder, precision)
            made[precision] = pipeline(folder, threads=1)
        return made[precision]

    return get


def _quantized(fp32: Path, target: Path, precision: str) -> None:
    """Rounded to nearest: what is tested here is not how well it answers."""
    opened = open_bundle(fp32)
    component = opened.manifest.components["model"]
    recipe = replace(RECIPES[precision], rounding="nearest")
    graph, _ = quantize_graph(read_graph(opened.path("onnx/model.onnx")), recipe, [])
    with BundleWriter(target) as writer:
        for name in opened.manifest.files:
            if not name.startswith("onnx/"):
                writer.copy(opened.root / name, name)
        variant = Variant(*write_graph(graph, writer, "onnx/model_quantized.onnx"))
        components = {"model": Component(component.signature, {precision: variant})}
        writer.commit(replace(opened.manifest, default=precision, components=components))


def ragged(texts: list[str], count: int) -> list[str]:
    """Prompts of 1 to 40 words."""
    words = " ".join([*texts, REPORT]).split()
    random = np.random.default_rng(0)
    starts, lengths = random.integers(0, 40, count), random.integers(1, 41, count)
    return [" ".join(words[s : s + n]) for s, n in zip(starts, lengths, strict=True)]


@pytest.mark.parametrize(("precision", "count"), [("fp32", 16), ("int8-weight", 200), ("int4", 32)])
def test_ragged_batches_give_the_text_of_each_prompt_alone(
    pipes: Callable[[str], Pipeline], texts: list[str], precision: str, count: int
) -> None:
    pipe, given = pipes(precision), ragged(texts, count)
    alone = [pipe(prompt, max_new_tokens=8) for prompt in given]
    assert pipe(given, max_new_tokens=8, batch_size=8) == alone


@pytest.mark.parametrize("precision", ["fp32", "int4"])
def test_a_prompt_in_parts_has_the_logits_of_the_whole(
    pipes: Callable[[str], Pipeline], precision: str
) -> None:
    writer = pipes(precision).asked.writer
    decoder, ids = writer.decoder, np.array([writer.ids(REPORT)])
    length = ids.shape[1]

    def logits(*parts: int) -> Any:
        binding, at, found = Binding(decoder, decoder.cache(1, 64)), 0, []
        for part in parts:
            step = binding.step(ids[:, at : at + part], [at + part], every=True)
            found.append(step[0].copy())
            at += part
        return np.concatenate(found)

    whole = logits(length)
    for parts in ((5, length - 5), (length - 2, 2), (2, 2, length - 4)):
        np.testing.assert_array_equal(logits(*parts), whole)
    if precision == "fp32":  # token by token onnxruntime attends with another kernel
        tokens = logits(2, *[1] * (length - 2))
        np.testing.assert_allclose(tokens, whole, atol=1e-4 * float(np.abs(whole).max()))
        np.testing.assert_array_equal(tokens.argmax(-1), whole.argmax(-1))


def test_greedy_tokens_are_those_of_transformers(
    pipes: Callable[[str], Pipeline], smollm2_folder: Path
) -> None:
    import torch

    from edgetfm.sources._gguf import open_gguf
    from edgetfm.sources._reference import causal_lm

    opened = open_gguf(smollm2_folder)
    theirs = causal_lm(opened.config, opened.weights())
    pipe = pipes("fp32")
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    for prompt in (REPORT[:60], chat):
        ids = pipe.asked.writer.ids(prompt)
        stream = pipe.stream(prompt, max_new_tokens=24)
        text = "".join(stream)
        wanted = theirs.generate(
            input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)),
            max_new_tokens=24, do_sample=False,
        )[0, len(ids) :].tolist()  # fmt: skip
        assert list(stream.tokens) == wanted
    assert "Paris" in text


def test_guesses_save_time_where_text_repeats(pipes: Callable[[str], Pipeline]) -> None:
    pipe = pipes("fp32")
    chat = [{"role": "user", "content": f"Repeat this text exactly: {REPORT}"}]
    steps: dict[int, int] = {}
    said: dict[int, str] = {}
    original = Binding.step

    def counting(self: Binding, tokens: Any, lengths: Any, *, every: bool = False) -> Any:
        steps[most] += 1
        return original(self, tokens, lengths, every=every)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Binding, "step", counting)
        for most in (0, 8):
            steps[most] = 0
            stream = pipe.stream(chat, max_new_tokens=60, prompt_lookup_num_tokens=most)
            said[most] = "".join(stream)
    assert said[8] == said[0]
    assert steps[8] < 0.6 * steps[0]
