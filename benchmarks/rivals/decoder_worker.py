"""A rival's side of the conversation: python decoder_worker.py MODULE CORES.

Runs in the rival's own environment, so it imports the rival's module and nothing else. `generate`
asks for a greedy answer, `score` for the log likelihood of each token of a text after its first.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time


def main() -> None:
    module, cores = sys.argv[1:]
    # Libraries print to stdout when they like: the conversation keeps the real one to itself.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
        rival = None
        for line in sys.stdin:
            request = json.loads(line)
            if request["op"] == "prepare":
                rival = importlib.import_module(module).Rival(request)
                reply = {"versions": rival.versions, "bytes": rival.bytes}
            elif request["op"] == "score":
                reply = {"log_likelihoods": rival.score(request["ids"])}
            else:
                reply = written(rival, request["ids"], request["new"])
            out.write(json.dumps(reply) + "\n")
            out.flush()


def written(rival, ids, new):  # type: ignore[no-untyped-def]
    """The tokens of one greedy answer, and when each of them was there, in seconds."""
    started, used = time.perf_counter(), time.process_time()
    tokens, times = [], []
    for token in rival.write(ids, new):
        tokens.append(int(token))
        times.append(time.perf_counter() - started)
    return {"tokens": tokens, "times": times, "cpu": time.process_time() - used}


if __name__ == "__main__":
    main()
