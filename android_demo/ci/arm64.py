"""The app's library for phones run on an emulated ARM CPU: the vectors of bundles, replayed.

The library is the AAR's own, made loadable on glibc as the one for the JVM is. qemu and the ARM
system's libraries are those of edgetfm's device arm64.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

import bionic
import numpy as np
import onnx
from kotlin import Failed
from tools import Missing, Tools

from edgetfm.bundle import Bundle, open_bundle
from edgetfm.errors import EdgetfmError
from edgetfm.ledger import Rung
from edgetfm.proof import Subject
from edgetfm.runtime.remote import emulated
from edgetfm.signature import Feeds
from edgetfm.vectors import Vectors, read_vectors, replay_rungs

CPUS = {"cortex-a53": "ARMv8.0, without dot products", "neoverse-n1": "ARMv8.2, with them"}
"""The CPUs that are emulated: kernels for int8 differ between the two."""

LIMIT_S = 300


def ready() -> None:
    """The emulator and its ARM system, fetched if they are not there; Missing says why not."""
    try:
        if emulated.missing("arm64", "qemu-aarch64-static", arm=True)() is not None:
            print("fetching an ARM system to emulate", flush=True)
            emulated.bring_arm()
        emulated.check_arm()
    except EdgetfmError as error:
        raise Missing(str(error)) from error


def replayed(tools: Tools, bundles: Mapping[str, Path], work: Path) -> list[Rung]:
    """The rungs of each bundle on each CPU, as `edgetfm verify` has them."""
    program = _built(tools, work)
    return [
        rung
        for name, path in bundles.items()
        for cpu in CPUS
        for rung in _rungs(program, open_bundle(path), cpu, work / f"{name}-{cpu}")
    ]


def problems(rungs: Iterable[Rung]) -> list[str]:
    """What was missed; what was measured is printed."""
    found = []
    for rung in rungs:
        told = ", ".join(f"{name} {m.cosine:.4f}" for name, m in rung.measures.items())
        print(f"{rung.name}, cosine to {rung.against}: {told}", flush=True)
        found += [f"{rung.name}: {miss}" for miss in rung.missed]
    return found


def _built(tools: Tools, work: Path) -> Path:
    """The program that asks, linked to the shim; the libraries lie beside it."""
    work.mkdir(parents=True, exist_ok=True)
    libraries = emulated.arm_system(next(iter(CPUS))) / "lib" / "aarch64-linux-gnu"
    compiler = (str(tools.zig), "cc", "-target", "aarch64-linux-gnu.2.31")
    os.environ.setdefault("ZIG_GLOBAL_CACHE_DIR", str(work / "zig"))
    shim = bionic.build(tools.aar / "jni" / "arm64-v8a", work, compiler, libraries.joinpath)
    program = work / "arm64"
    subprocess.run(
        [*compiler, "-O1", "-o", program, Path(__file__).with_suffix(".c"), shim,
         "-I", tools.aar / "headers", f"-Wl,-rpath,{work}", "-ldl"],
        check=True,
    )  # fmt: skip
    return program


def _rungs(program: Path, bundle: Bundle, cpu: str, work: Path) -> list[Rung]:
    """A bundle's vectors on a CPU."""
    manifest, vectors = bundle.manifest, read_vectors(bundle)
    graph = bundle.graph(vectors.variant)
    assert isinstance(graph, Path), "a bundle of one graph"
    answers = _asked(program, graph, vectors, cpu, work)
    return replay_rungs(
        Subject.of_bundle(manifest), vectors.variant, f"{bundle.root.name} on {cpu} ({CPUS[cpu]})",
        answers, vectors, manifest.budget,
    )  # fmt: skip


def _asked(program: Path, graph: Path, vectors: Vectors, cpu: str, work: Path) -> list[Feeds]:
    work.mkdir(exist_ok=True)
    cases = work / "cases.txt"
    cases.write_text(_written(vectors, work), encoding="utf-8")
    done = subprocess.run(
        [*emulated.arm_machine(cpu), program, graph, cases],
        check=False, capture_output=True, text=True, errors="replace", timeout=LIMIT_S,
    )  # fmt: skip
    if done.returncode:
        raise Failed(f"arm64 on {cpu} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return [
        {
            name: np.fromfile(work / f"{number}.{name}", array.dtype).reshape(array.shape)
            for name, array in shipped.items()
        }
        for number, shipped in enumerate(vectors.shipped)
    ]


def _written(vectors: Vectors, work: Path) -> str:
    """The cases as arm64.c reads them; their inputs are laid in `work`."""
    lines = []
    for number, (case, shipped) in enumerate(zip(vectors.cases, vectors.shipped, strict=True)):
        for name, array in case.items():
            file = work / f"{number}.{name}.in"
            array.tofile(file)
            kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            lines.append(f"in {name} {kind} {file} {array.ndim} {' '.join(map(str, array.shape))}")
        lines += [f"out {name} {work / f'{number}.{name}'}" for name in shipped]
        lines.append("run")
    return "\n".join(lines) + "\n"
