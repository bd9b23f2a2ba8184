"""Programs run on other x86 CPUs than this one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgetfm.quantize.targets import this_machine
from edgetfm.runtime.devices import DEVICES
from edgetfm.runtime.remote.emulated import X86_CPUS, variables, x86_command

ROOT = Path(__file__).parents[2]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def on_cpu() -> Run:
    """on_cpu(target, *arguments): Python run with these arguments on such a CPU, on one thread."""

    def run(target: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable]
        if target != this_machine():
            if target not in X86_CPUS:
                pytest.skip(f"this is no {target}, and qemu can do none")
            missing = DEVICES[target].missing()
            if missing is not None:
                pytest.skip(f"{target} needs {missing}")
            DEVICES[target].prepare()
            command = x86_command(target)
        env = variables() | {"HF_HUB_OFFLINE": "1"}
        return subprocess.run(
            [*command, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )

    return run
