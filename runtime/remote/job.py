"""The folder in which a device is asked, and in which it answers: one format for all of them.

A job is `job.json`, the graphs it names, and `cases.bin`; a result is `result.json` and
`answers.bin`. docs/devices.md has the fields. Arrays lie in the .bin files in C order, little
endian, each at a multiple of 64 bytes: every language reads that without a library.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from edgetfm.errors import DeviceError
from edgetfm.signature import Array, Feeds

SCHEMA = 1
_ALIGNED = 64


@dataclass(frozen=True)
class Stage:
    """One graph of a job: where its inputs come from, and what its outputs are called after it.

    takes: input -> a tensor of the case, or one that an earlier graph gave. gives: output -> the
    name that later graphs and the answers know it by.
    """

    path: Path
    takes: Mapping[str, str]
    gives: Mapping[str, str]


@dataclass(frozen=True)
class Job:
    """What a device is asked.

    provider: {"name", "options", "library"}; a library is a Python module that brings the
    provider. settings: onnxruntime settings as in a manifest. dimensions: a case's fixed sizes of
    free axes, for devices that take no others; {} leaves them free. runs: how often the last case
    is timed, after `warm_up` calls. context: whether the compiled form is to be kept.
    """

    stages: tuple[Stage, ...]
    cases: Sequence[Feeds]
    outputs: Sequence[str]
    provider: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)
    dimensions: Sequence[Mapping[str, int]] = ()
    threads: int = 1
    runs: int = 0
    warm_up: int = 3
    optimize: bool = True
    context: bool = False

    def write(self, folder: Path) -> None:
        """Write it into a folder. The graphs are linked where the system can, else copied."""
        listed = []
        for number, stage in enumerate(self.stages):
            inside = folder / f"graph{number}"
            inside.mkdir()
            weights = stage.path.with_name(f"{stage.path.name}_data")
            # A graph that was compiled has all but its name in a .bin.
            for source in (stage.path, weights, stage.path.with_suffix(".bin")):
                if source.is_file():
                    _lay(source, inside / source.name)
            takes, gives = dict(stage.takes), dict(stage.gives)
            listed.append({"file": f"{inside.name}/{stage.path.name}", "takes": takes,
                           "gives": gives})  # fmt: skip
        dimensions = self.dimensions or [{} for _ in self.cases]
        with (folder / "cases.bin").open("wb") as file:
            cases = [
                {"dimensions": dict(fixed), "inputs": write_arrays(file, feeds)}
                for feeds, fixed in zip(self.cases, dimensions, strict=True)
            ]
        data = {
            "schema": SCHEMA,
            "graphs": listed,
            "provider": {"name": "", "options": {}, "library": None, **self.provider},
            "settings": {"disabled_optimizers": [], "config_entries": {}, **self.settings},
            "optimize": self.optimize,
            "threads": self.threads,
            "warm_up": self.warm_up,
            "runs": self.runs,
            "context": self.context,
            "outputs": list(self.outputs),
            "cases": cases,
        }
        (folder / "job.json").write_text(json.dumps(data, indent=1), encoding="utf-8")


@dataclass(frozen=True)
class Result:
    """What came back. Times are of the device's own clock; whether they mean anything is its row's.

    answers: of each case, by output. placement: provider -> nodes, None where the runtime does not
    tell. fallen_back: operator -> nodes that ended on the CPU. load_ms, times_ms: of loading the
    graphs, and of each timed run. peak_bytes: of anonymous memory above what the runner had after
    its imports, None where the system does not tell or nothing is timed. runtime: the runtime's
    name and version. machine: what it says of itself.
    """

    answers: list[Feeds]
    placement: dict[str, int] | None
    fallen_back: dict[str, int]
    load_ms: float
    times_ms: list[float]
    peak_bytes: int | None
    runtime: str
    machine: dict[str, Any]

    @classmethod
    def read(cls, folder: Path, device: str) -> Self:
        """The result in a folder. DeviceError with what went wrong on the device."""
        file = folder / "result.json"
        if not file.is_file():
            raise DeviceError(f"{device} gave no result: its runner ended before it could")
        data = json.loads(file.read_text(encoding="utf-8"))
        if data["error"] is not None:
            stage, message = data["error"]["stage"], " ".join(data["error"]["message"].split())
            raise DeviceError(f"{device} cannot {stage} the graph: {message}")
        held = memoryview((folder / "answers.bin").read_bytes())
        return cls(
            answers=[read_arrays(held, case) for case in data["answers"]],
            placement=data["placement"],
            fallen_back=data["fallen_back"],
            load_ms=data["load_ms"],
            times_ms=data["times_ms"],
            peak_bytes=data["peak_bytes"],
            runtime=data["runtime"],
            machine=data["machine"],
        )


def write_arrays(file: Any, arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Append arrays to a file, and say where each is: {name: {"dtype", "shape", "offset"}}."""
    said = {}
    for name, array in arrays.items():
        file.write(b"\0" * (-file.tell() % _ALIGNED))
        said[name] = {
            "dtype": array.dtype.name,
            "shape": list(array.shape),
            "offset": file.tell(),
        }
        file.write(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    return said


def read_arrays(held: memoryview, said: Mapping[str, Any]) -> Feeds:
    """The inverse of `write_arrays`."""
    arrays: Feeds = {}
    for name, what in said.items():
        dtype = np.dtype(what["dtype"]).newbyteorder("<")
        count = int(np.prod(what["shape"], dtype=np.int64))
        array = np.frombuffer(held, dtype, count, what["offset"])
        arrays[name] = array.reshape(what["shape"])
    return arrays


def _lay(file: Path, place: Path) -> None:
    """The same file at another place. A link to a file that links lead out of is none: copied."""
    try:
        os.link(file.resolve(), place)
    except OSError:
        shutil.copyfile(file, place)


def total(placement: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The counts of several placements added up."""
    added: dict[str, int] = {}
    for one in placement:
        for name, count in one.items():
            added[name] = added.get(name, 0) + count
    return added
