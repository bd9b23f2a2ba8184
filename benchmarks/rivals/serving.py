"""A rival's side of the conversation: a line of JSON is a request, and one is the answer.

Runs in the rival's own environment, so it imports the rival's module and nothing else.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from typing import Any


def serve(
    answer: Callable[[Any, dict[str, Any]], dict[str, Any]], *, free_until_ready: bool = False
) -> None:
    """Answer with the rival of MODULE, which keeps to CORES, until nothing more is asked.

    free_until_ready: it may use every core until it is loaded, to export and to quantize.
    """
    module, cores = sys.argv[1:]
    # Libraries print to stdout when they like: the conversation keeps the real one to itself.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        if not free_until_ready:
            keep_to(cores)
        rival = None
        for line in sys.stdin:
            request = json.loads(line)
            if request["op"] == "prepare":
                rival = importlib.import_module(module).Rival(request)
                reply = {"versions": rival.versions, "bytes": rival.bytes}
                if free_until_ready:
                    keep_to(cores)
            else:
                reply = answer(rival, request)
            out.write(json.dumps(reply) + "\n")
            out.flush()


def keep_to(cores: str) -> None:
    """Numbers with commas between them; - is all."""
    if cores != "-":
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
