"""Measurements come with their spread, their machine and their form; a loser never wins."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgetfm.bundle import open_bundle
from edgetfm.errors import DeviceError, EdgetfmError, InputError
from edgetfm.runtime import machine as machine_module
from edgetfm.runtime import tuning
from edgetfm.runtime.bench import bench
from edgetfm.runtime.devices import DEVICES, Device
from edgetfm.runtime.machine import cpu_features, machine
from edgetfm.runtime.memory import anonymous_memory, peak_memory
from edgetfm.runtime.session import make_session
from edgetfm.runtime.steps import last_step
from edgetfm.runtime.tuning import (
    CANDIDATES,
    MOST_CALLS,
    Timing,
    choose_session,
    compare_latency,
    fastest,
    interleaved,
)


@pytest.fixture(scope="module")
def folder(tiny_bundle: Callable[..., Any]) -> Path:
    path: Path = tiny_bundle("bert", "text-classification").bundle
    return path


FEEDS = {
    "input_ids": np.full((1, 32), 7),
    "attention_mask": np.ones((1, 32), np.int64),
    "token_type_ids": np.zeros((1, 32), np.int64),
}

# --- tuning -------------------------------------------------------------------------------------


def around(value: float, spread: float) -> Timing:
    rounds = tuple(value + spread * step for step in (-1, -0.5, 0, 0.5, 1))
    return Timing(value, spread, rounds)


def test_a_winner_wins_by_more_than_the_spread() -> None:
    default = around(1.0, 0.0)
    assert fastest({"default": default, "other": around(0.9, 0.01)}) == "other"
    assert fastest({"default": default, "other": around(0.98, 0.05)}) == "default"
    assert fastest({"default": default, "other": around(1.2, 0.01)}) == "default"
    assert fastest({"default": default, "a": around(0.9, 0.01), "b": around(0.8, 0.01)}) == "b"


def test_interleaved_calls_are_timed_in_turns() -> None:
    seen: list[str] = []

    def call(name: str, seconds: float) -> Callable[[], None]:
        def run() -> None:
            seen.append(name)
            time.sleep(seconds)

        return run

    timings = interleaved({"slow": call("slow", 0.04), "fast": call("fast", 0.002)}, rounds=3,
                          seconds=0.0)  # fmt: skip
    assert timings["slow"].median > 2 * timings["fast"].median
    assert timings["slow"].ratio_to(timings["fast"]).median > 2
    assert len(timings["slow"].rounds) == 3
    turns = "".join(name[0] for name in seen)[6:]  # after the warm-up
    assert turns == "sf" * 3


def test_calls_shorter_than_a_round_are_repeated_three_times_at_least() -> None:
    seen: list[float] = []

    def call() -> None:
        seen.append(time.perf_counter())
        time.sleep(0.04)

    interleaved({"one": call}, rounds=2, seconds=0.1)
    assert len(seen) == 3 + 2 * 3


def test_the_shortest_calls_do_not_fill_a_round() -> None:
    seen: list[int] = []
    interleaved({"one": lambda: seen.append(0)}, rounds=2, seconds=3600)
    assert len(seen) == 3 + 2 * MOST_CALLS


def test_settings_are_measured_where_they_change_the_graph(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[set[str]] = []

    def watched(calls: Any, **options: Any) -> Any:
        measured.append(set(calls))
        return interleaved(calls, **options)

    monkeypatch.setattr(tuning, "interleaved", watched)
    assert choose_session(folder / "onnx" / "model.onnx", FEEDS) == {}  # written without shapes
    assert not measured
    onnx.save(
        onnx.parser.parse_model(
            """<ir_version: 8, opset_import: ["" : 17]>
            skips (float[1, 8, 16] x, float[1, 8, 16] y) => (float[1, 8, 16] z)
            <float[16] one = {1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1},
             float[16] none = {0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0}> {
                sum = Add(x, y)
                z = LayerNormalization <axis = -1> (sum, one, none)
            }"""
        ),
        graph := tmp_path / "skips.onnx",
    )
    feeds = {name: np.ones((1, 8, 16), np.float32) for name in "xy"}
    assert choose_session(graph, feeds) in CANDIDATES.values()
    assert measured == [set(CANDIDATES)]


def test_a_graph_that_memory_may_not_hold_twice_keeps_the_usual_settings(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = folder / "onnx" / "model.onnx"
    size = sum(file.stat().st_size for file in graph.parent.glob("model.onnx*"))
    monkeypatch.setattr(tuning, "LARGE_GRAPH", 2 * size - 1)
    for name in ("open_graph", "operators"):
        monkeypatch.setattr(tuning, name, None)
    assert choose_session(graph, FEEDS) == {}


def test_every_candidate_is_a_valid_setting(folder: Path) -> None:
    answers = [
        make_session(folder / "onnx" / "model.onnx", settings=s).run(FEEDS)["logits"]
        for s in CANDIDATES.values()
    ]
    for answer in answers:
        np.testing.assert_allclose(answer, answers[0], atol=1e-5, rtol=0)


def test_graphs_are_compared_with_their_settings(folder: Path) -> None:
    graph = folder / "onnx" / "model.onnx"
    told: list[tuple[str, int, int]] = []
    timings = compare_latency(
        {"one": (graph, {}), "two": (graph, {"disabled_optimizers": ["GeluFusion"]})},
        FEEDS,
        rounds=3,
        progress=lambda *step: told.append(step),
    )
    assert all(timing.median > 0 and timing.spread >= 0 for timing in timings.values())
    assert told[-1][1:] == (3, 3)


def test_of_a_decoder_the_step_of_one_token_is_timed(
    tiny_decoder_bundle: Callable[..., Any],
) -> None:
    graph = tiny_decoder_bundle("llama").bundle / "onnx" / "model.onnx"
    session = make_session(graph)
    feeds = {name: FEEDS[name] for name in ("input_ids", "attention_mask")}
    step = last_step(session.signature, feeds)
    answer = session.run(step)
    assert step["input_ids"].shape == (1, 1)
    assert answer["logits"].shape[:2] == (1, 1)
    assert answer["present.0.key"].shape[2] == 32
    whole = interleaved({"whole": lambda: session.run(feeds)}, rounds=3)["whole"]
    assert compare_latency({"one": (graph, {})}, feeds, rounds=3)["one"].median < whole.median
    assert last_step(make_session(graph).signature.of_whole_texts, feeds) is feeds


# --- bench --------------------------------------------------------------------------------------


def test_a_bench_is_json_and_complete(folder: Path) -> None:
    result = bench(folder, threads=1, runs=20, sequence=32, batch=2)
    assert json.loads(json.dumps(result)) == result
    latency = result["latency_ms"]
    assert 0 < latency["min"] <= latency["p50"] <= latency["p95"]
    assert result["load_ms"] > 0
    assert result["bytes"] == (folder / "onnx" / "model.onnx").stat().st_size
    assert (result["batch"], result["sequence"], result["threads"]) == (2, 32, 1)
    assert (result["runs"], result["precision"], result["device"]) == (20, "fp32", "cpu")
    assert list(result["placement"]) == ["CPUExecutionProvider"]
    assert result["machine"]["onnxruntime"]
    assert result["model"]["sha256"] == open_bundle(folder).manifest.source["sha256"]
    assert list(result["files"]) == ["onnx/model.onnx"]
    memory = result["peak_memory_mb"]
    assert memory is None or 0.1 < memory < 100


def test_images_have_no_sequence(tiny_bundle: Callable[..., Any]) -> None:
    made = tiny_bundle("vit", "image-classification")
    result = bench(made.bundle, runs=2, memory=False)
    assert result["sequence"] is None
    assert result["peak_memory_mb"] is None


def test_a_bench_of_a_fallen_back_device_gives_no_number(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = Device("other", "AzureExecutionProvider", "other", missing=lambda: None)
    monkeypatch.setitem(DEVICES, "other", row)
    with pytest.raises(DeviceError, match="fell back"):
        bench(folder, device="other", runs=1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        *(
            ({"runs": 0}, "runs is 0"),
            ({"batch": 0}, "batch is 0"),
            ({"sequence": 999}, "takes 64"),
        ),
        *(({"batch": 10**n}, f"--batch {10**n} and --sequence 128") for n in (12, 30)),
    ],
)
def test_a_bench_of_nothing_is_an_input_error(
    folder: Path, options: dict[str, int], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        bench(folder, **options)  # type: ignore[arg-type]


# --- memory -------------------------------------------------------------------------------------

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="no /proc/PID/status here"
)


@needs_proc
def test_peak_memory_sees_what_was_allocated_and_freed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "worker.py").write_text(
        "import json, numpy, time\n"
        "def child_main(request):\n"
        "    array = numpy.ones(json.loads(request)['bytes'], numpy.uint8)\n"
        "    time.sleep(0.05)\n"
        "    del array\n"
        "    time.sleep(0.05)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    peak = peak_memory("worker", {"bytes": 50_000_000})
    assert peak is not None
    assert 50_000_000 <= peak < 60_000_000


@needs_proc
def test_a_measured_process_that_fails_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "worker.py").write_text("def child_main(request):\n    raise ValueError('oh no')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(EdgetfmError, match="oh no"):
        peak_memory("worker", {})


@needs_proc
def test_an_ended_process_has_no_memory() -> None:
    assert anonymous_memory(2**22 + 1) is None


# --- the machine --------------------------------------------------------------------------------


def test_the_machine_is_described_in_json() -> None:
    found = machine()
    assert json.loads(json.dumps(found)) == found
    assert found["cpu"]
    assert found["cpus"] >= 1
    assert found["onnxruntime"]


@pytest.mark.parametrize(
    ("cpuinfo", "features"),
    [
        ("model name\t: X\nflags\t\t: fpu avx2 avx_vnni foo\n", ["avx2", "avx_vnni"]),
        ("Features\t: fp asimd asimddp i8mm\n", ["neon", "neon_dotprod", "neon_i8mm"]),
        ("nothing here\n", None),
        (None, None),
    ],
)
def test_cpu_features_are_read_from_linux(
    cpuinfo: str | None,
    features: list[str] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "cpuinfo"
    if cpuinfo is not None:
        path.write_text(cpuinfo + "\nprocessor\t: 1\nflags\t: sve avx512f\n")
    monkeypatch.setattr(machine_module, "_CPUINFO", path)
    assert cpu_features() == features
