"""Programs run on other x86 CPUs than this one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgetfm.quantize.targets import this_machine
from tests.emulated.qemu import find

ROOT = Path(__file__).parents[2]

CPUS = {
    "x86-avx2": "Haswell-noTSX,-pcid,-x2apic,-tsc-deadline,-invpcid",
    "x86-sse": "Nehalem",
    "x86-vnni": "",
}
"""Target -> what qemu calls such a CPU, less what it cannot do; VNNI it cannot do at all."""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def on_cpu() -> Run:
    """on_cpu(target, *arguments): Python run with these arguments on such a CPU, on one thread."""

    def run(target: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        if target != this_machine():
            program = find()
            if program is None or not CPUS[target]:
                pytest.skip(
                    f"no {target} here, and none to emulate: "
                    "python tests/emulated/qemu.py brings an emulator, or says why it cannot"
                )
            command = [str(program), "-cpu", CPUS[target], *command]
        env = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        return subprocess.run(
            command, cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )

    return run
