"""Memory that was freed goes back to the system, also that of a process that is small."""

from __future__ import annotations

import subprocess
import sys

import pytest

_CHILD = """
import os
from edgetfm.runtime.memory import anonymous_memory, return_freed
kept = [bytearray(b"x") * (1 << 14) for _ in range(8192)]  # 134 MB, each in 4 pages of its own
held = anonymous_memory(os.getpid())
kept = kept[::64]  # those that stay lie between the others
freed = anonymous_memory(os.getpid())
return_freed()
print(held, freed, anonymous_memory(os.getpid()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone is asked to give memory back")
def test_what_lies_between_things_that_stay_is_given_back() -> None:
    said = subprocess.run(
        [sys.executable, "-c", _CHILD], capture_output=True, text=True, check=True
    )
    held, freed, left = (int(number) for number in said.stdout.split())
    assert held - freed < 20 << 20  # the C library alone gives nothing back
    assert freed - left > 100 << 20
