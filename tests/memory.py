"""A program in a process of its own, and the most memory that it took."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

WATCHED = """
import json, os, sys, threading
{imports}
from edgetfm.runtime.memory import anonymous_memory

start, peak, done, found = anonymous_memory(os.getpid()), 0, threading.Event(), {{}}

def watch():
    global peak
    while not done.wait(0.005):
        peak = max(peak, anonymous_memory(os.getpid()))

watcher = threading.Thread(target=watch, daemon=True)
watcher.start()
{program}
done.set()
watcher.join()
print(json.dumps({{**found, "peak": peak - start}}))
"""


def watched(imports: str, program: str, *arguments: object, seconds: int = 1500) -> dict[str, Any]:
    """What `program` puts into its dict `found`, and as "peak" the bytes it took.

    They are of anonymous memory, above what there was after `imports`; mapped files do not count.
    The arguments are in sys.argv.
    """
    code = WATCHED.format(imports=imports.strip(), program=program.strip())
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured
