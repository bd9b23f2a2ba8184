"""Bundles on an NVIDIA GPU, held against the CPU: numpy and onnxruntime-gpu are all it takes.

`make gpu-bundles` makes what is run here (runs/gpu); carry the folder to the machine with the GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgetfm.errors import DeviceError
from edgetfm.runtime import load
from edgetfm.runtime.devices import DEVICES
from edgetfm.runtime.generation.decoder import Decoder
from edgetfm.runtime.generation.generator import Generator
from edgetfm.runtime.generation.options import GenerationOptions
from edgetfm.runtime.generation.rows import Row
from edgetfm.signature import Feeds
from tests.gpu.bundles import DECODER, ENCODER, INT8

missing = DEVICES["cuda"].missing()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(missing is not None, reason=f"needs {missing}")]

HALF = 2.0**-8
"""Two orders of rounding of a float16, which has 11 bits: kernels add in other orders."""


@pytest.fixture
def bundle() -> Callable[[Path], Path]:
    """A bundle that was made before; not to have it is a failure where there is a GPU."""

    def get(folder: Path) -> Path:
        if not folder.is_dir():
            pytest.fail(f"{folder} is not there: make gpu-bundles, where edgetfm[export] is")
        return folder

    return get


def ragged(lengths: Sequence[int]) -> Feeds:
    """Rows of tokens, padded to the longest."""
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    ids = np.random.default_rng(0).integers(1000, 20_000, mask.shape) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(mask)}


def cosines(one: NDArray[np.floating], other: NDArray[np.floating]) -> NDArray[np.float64]:
    a, b = (np.asarray(x, np.float64) for x in (one, other))
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


@pytest.mark.parametrize("lengths", [[1], [128], [7, 31, 1, 16]])
def test_a_half_precision_encoder_answers_as_on_the_cpu_and_all_of_it_is_on_the_gpu(
    bundle: Callable[[Path], Path], lengths: list[int]
) -> None:
    gpu, cpu = (load(bundle(ENCODER), device=device) for device in ("cuda", "cpu"))
    feeds = {t.name: ragged(lengths)[t.name] for t in gpu.signature.inputs}
    answer, expected = (m.run(feeds)["sentence_embedding"] for m in (gpu, cpu))
    assert gpu.providers[0] == "CUDAExecutionProvider"
    assert gpu.graph.fallen_back == {}
    assert cosines(answer, expected).min() > 1 - HALF**2


def test_a_decoder_keeps_its_cache_on_the_gpu_and_writes_the_tokens_that_the_cpu_writes(
    bundle: Callable[[Path], Path],
) -> None:
    options = GenerationOptions(max_new_tokens=24, do_sample=False)
    written = {}
    for device in ("cuda", "cpu"):
        model = load(bundle(DECODER), device=device)
        decoder = Decoder(model)
        cache = decoder.cache(1, 64)
        assert {value.device_name().lower() for value in cache.values} == {device}
        assert model.graph.fallen_back == {}
        rows = [Row([5 + i, 9, 40, 17], options) for i in range(3)]
        for row in rows:  # alone, and then all at once
            for _ in Generator(decoder).write([row]):
                pass
        batch = [Row(row.prompt, options) for row in rows]
        for _ in Generator(decoder).write(batch):
            pass
        assert [row.tokens for row in batch] == [row.tokens for row in rows]
        written[device] = [row.tokens for row in rows]
    assert written["cuda"] == written["cpu"]


def test_buffers_that_are_bound_on_the_gpu_stay_there(bundle: Callable[[Path], Path]) -> None:
    model = load(bundle(ENCODER), device="cuda")
    feeds = {t.name: ragged([16, 9])[t.name] for t in model.signature.inputs}
    expected = model.run(feeds)["sentence_embedding"]
    binding = model.graph.io_binding()
    for name, array in feeds.items():
        binding.bind_cpu_input(name, array)
    binding.bind_output("sentence_embedding", "cuda")
    model.graph.run_bound(binding)
    (answer,) = binding.get_outputs()
    assert answer.device_name().lower() == "cuda"
    np.testing.assert_array_equal(answer.numpy(), expected)


def test_int8_is_no_silent_row_of_the_gpu(bundle: Callable[[Path], Path]) -> None:
    model_on_cpu = load(bundle(INT8))
    feeds = {t.name: ragged([12])[t.name] for t in model_on_cpu.signature.inputs}
    with pytest.raises(DeviceError, match="fell back to the CPU"):
        load(bundle(INT8), device="cuda").run(feeds)
