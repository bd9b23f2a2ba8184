"""runner.py FOLDER: what job.json asks, answered in result.json and answers.bin beside it.

It stands alone, on numpy and onnxruntime, so that it can be taken to any machine with Python.
Exit code 0 whenever a result was written, also one that says what went wrong.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import platform
import sys
import time
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime as ort

CPU = "CPUExecutionProvider"
SHAPE_OPS = {
    *("Add", "Cast", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand", "Gather"),
    *("Greater", "Identity", "Less", "Max", "Min", "Mod", "Mul", "Range", "ReduceProd", "Reshape"),
    *("Shape", "Size", "Slice", "Squeeze", "Sub", "Unsqueeze", "Where"),
}
"""What onnxruntime itself prefers the CPU for when it only computes shapes."""

SHAPE_TYPES = ("int64", "int32", "bool")
"""What shapes are computed in. Floats of one element are theirs, too: scales made of a length."""


class Failed(Exception):
    """A stage of the work, `load` or `run`, and why it failed."""

    def __init__(self, stage: str, error: Exception) -> None:
        super().__init__(str(error))
        self.stage = stage


def main(folder: Path) -> None:
    """Answer the job in the folder."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    result: dict[str, Any] = {
        "schema": 1,
        "runtime": f"onnxruntime {ort.__version__}",
        "machine": {"architecture": platform.machine(), "system": platform.system()},
        "error": None,
        "peak_bytes": None,
    }
    try:
        result.update(replay(job, folder))
    except Failed as failed:
        result["error"] = {"stage": failed.stage, "message": str(failed)}
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


def replay(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Load the graphs, ask every case, and time the last."""
    held = (folder / "cases.bin").read_bytes()
    sessions: list[Any] = []
    dimensions: dict[str, int] | None = None
    load_ms = 0.0
    answers: list[dict[str, Any]] = []
    placement: dict[str, int] = {}
    fallen: dict[str, int] = {}
    times: list[float] = []
    profiled = False
    watch = Watch(sees=job["runs"] > 0)
    with (folder / "answers.bin").open("wb") as file, watch:
        for number, case in enumerate(job["cases"]):
            if case["dimensions"] != dimensions:
                dimensions = case["dimensions"]
                start = time.perf_counter()
                sessions = [
                    load(job, folder, graph, dimensions, f"{number}-{at}")
                    for at, graph in enumerate(job["graphs"])
                ]
                load_ms = load_ms or (time.perf_counter() - start) * 1e3
                found, left = placed(sessions, job["provider"]["name"])
                add_most(placement, found)
                add_most(fallen, left)
                profiled = job["provider"]["name"] != CPU
            feeds = read(held, case["inputs"])
            given = ask(job, sessions, feeds)
            if profiled:  # the first call of these sessions, which were loaded to be
                profiled = False
                add_most(fallen, not_of_shapes([e for s in sessions for e in events(s)]))
            answers.append(write(file, {name: given[name] for name in job["outputs"]}))
    for turn in range(job["warm_up"] + job["runs"] if job["runs"] else 0):
        start = time.perf_counter()
        ask(job, sessions, feeds)
        if turn >= job["warm_up"]:
            times.append((time.perf_counter() - start) * 1e3)
    return {
        "answers": answers,
        "placement": placement or None,
        "fallen_back": fallen,
        "load_ms": load_ms,
        "times_ms": times,
        "peak_bytes": watch.peak,
    }


def load(
    job: dict[str, Any], folder: Path, graph: dict[str, Any], dimensions: dict[str, int], name: str
) -> Any:
    """A session of one graph, with free axes fixed to the case's dimensions if it has any."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = job["threads"]
    options.inter_op_num_threads = 1
    if not job["optimize"]:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if job["provider"]["name"] != CPU:
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / f"profile-{name}")
    for key, value in job["settings"]["config_entries"].items():
        options.add_session_config_entry(key, value)
    for axis, size in dimensions.items():
        options.add_free_dimension_override_by_name(axis, size)
    if job["context"]:
        options.add_session_config_entry("ep.context_enable", "1")
        options.add_session_config_entry("ep.context_embed_mode", "0")
        options.add_session_config_entry(
            "ep.context_file_path", str(folder / f"context-{name}.onnx")
        )
    provider = job["provider"]
    arguments: dict[str, Any] = {
        "disabled_optimizers": list(job["settings"]["disabled_optimizers"]),
        "enable_fallback": False,
    }
    try:
        if provider["library"] is None:
            arguments["providers"] = [(provider["name"], provider["options"])]
        else:
            devices = plugged(provider)
            options.add_provider_for_devices(devices, provider["options"])
        return ort.InferenceSession(str(folder / graph["file"]), options, **arguments)
    except Exception as error:
        raise Failed("load", error) from error


def plugged(provider: dict[str, Any]) -> list[Any]:
    """The device of a provider that a Python package brings."""
    found = [e for e in ort.get_ep_devices() if e.ep_name == provider["name"]]
    if not found:
        module = importlib.import_module(provider["library"])
        ort.register_execution_provider_library(provider["name"], module.get_library_path())
        found = [e for e in ort.get_ep_devices() if e.ep_name == provider["name"]]
    return found[:1]


def add_most(counts: dict[str, int], found: dict[str, int]) -> None:
    """Keep the larger count: a graph compiled anew for each size may be taken otherwise each."""
    for name, nodes in found.items():
        counts[name] = max(counts.get(name, 0), nodes)


def placed(sessions: list[Any], provider: str) -> tuple[dict[str, int], dict[str, int]]:
    """Nodes by provider, and by operator those that fell back whatever they compute.

    Of SHAPE_OPS only a run tells: see `not_of_shapes`.
    """
    placement: dict[str, int] = {}
    fallen: dict[str, int] = {}
    for session in sessions:
        for part in session.get_provider_graph_assignment_info():
            for node in part.get_nodes():
                placement[part.ep_name] = placement.get(part.ep_name, 0) + 1
                if part.ep_name != provider and node.op_type not in SHAPE_OPS:
                    fallen[node.op_type] = fallen.get(node.op_type, 0) + 1
    if not placement and provider != CPU:
        error = RuntimeError(f"{provider} does not say where its nodes run, so nothing is known")
        raise Failed("load", error)
    if placement and provider not in placement:
        fallen = fallen or {"every node": sum(placement.values())}
    return placement, fallen


def events(session: Any) -> list[dict[str, Any]]:
    """What a session that was loaded to be profiled wrote down of its calls until now."""
    file = Path(session.end_profiling())
    try:
        found: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    finally:
        file.unlink()
    return found


def not_of_shapes(said: list[dict[str, Any]]) -> dict[str, int]:
    """Of a profile, by operator, the nodes on the CPU that only look like arithmetic of shapes.

    They have an operator of SHAPE_OPS and give floats, or the integers of a quantized tensor.
    """
    nodes: dict[str, str] = {}
    for event in said:
        about = event.get("args", {})
        kernel = event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
        if not kernel or about.get("provider") != CPU or about["op_name"] not in SHAPE_OPS:
            continue
        for given in about["output_type_shape"]:
            if any(kind not in SHAPE_TYPES and elements(s) > 1 for kind, s in given.items()):
                nodes[about["node_index"] + event["name"]] = about["op_name"]
    counts: dict[str, int] = {}
    for operator in nodes.values():
        counts[operator] = counts.get(operator, 0) + 1
    return counts


def elements(shape: list[int]) -> int:
    """How many numbers a tensor of this shape has."""
    return int(np.prod(shape, dtype=np.int64))


def ask(job: dict[str, Any], sessions: list[Any], feeds: dict[str, Any]) -> dict[str, Any]:
    """All that the graphs give for one case, one after the other."""
    known = dict(feeds)
    for graph, session in zip(job["graphs"], sessions, strict=True):
        inputs = {name: known[source] for name, source in graph["takes"].items()}
        try:
            values = session.run(list(graph["gives"]), inputs)
        except Exception as error:
            raise Failed("run", error) from error
        known.update(zip(graph["gives"].values(), values, strict=True))
    return known


def read(held: bytes, said: dict[str, Any]) -> dict[str, Any]:
    """Arrays by name, from where the job says they are."""
    arrays = {}
    for name, what in said.items():
        count = int(np.prod(what["shape"], dtype=np.int64))
        array = np.frombuffer(held, np.dtype(what["dtype"]), count, what["offset"])
        arrays[name] = array.reshape(what["shape"])
    return arrays


def write(file: Any, arrays: dict[str, Any]) -> dict[str, Any]:
    """Append arrays to the file, and say where they are."""
    said = {}
    for name, array in arrays.items():
        file.write(b"\0" * (-file.tell() % 64))
        said[name] = {
            "dtype": array.dtype.name,
            "shape": list(array.shape),
            "offset": file.tell(),
        }
        file.write(np.ascontiguousarray(array).tobytes())
    return said


class Watch:
    """The most anonymous memory of this process above what it had before, in bytes, as `peak`.

    None where there is no /proc. Mapped files do not count. A process of its own looks every
    millisecond, for a thread of this one may stand still while a graph is loaded; it is a fork,
    which needs no program that a phone, or an emulator, would have to start.
    """

    def __init__(self, *, sees: bool) -> None:
        self.before = anonymous(os.getpid()) if sees else None
        self.peak: int | None = None

    def __enter__(self) -> None:
        if self.before is None:
            return
        apart = multiprocessing.get_context("fork")
        self.line, there = apart.Pipe()
        self.process = apart.Process(target=look, args=(os.getpid(), there), daemon=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of threads, which the fork does nothing with
            self.process.start()
        self.line.recv()

    def __exit__(self, *_: object) -> None:
        if self.before is None:
            return
        self.line.send("enough")
        self.peak = max(0, int(self.line.recv()) - self.before)
        self.process.join()


def look(pid: int, line: Any) -> None:
    """Say on the line that we look; then, told anything, the most memory that the process had."""
    line.send("ready")
    most = 0
    while not line.poll(0.001) and os.getppid() == pid:
        most = max(most, anonymous(pid) or 0)
    line.send(most)


def anonymous(pid: int) -> int | None:
    """The anonymous memory of a process in bytes, None where the system does not say."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(n.split()[1]) * 1024 for n in lines if n.startswith("RssAnon:")), None)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
