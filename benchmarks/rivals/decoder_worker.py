"""A rival's side of the conversation: python decoder_worker.py MODULE CORES.

Runs in the rival's own environment, so it imports the rival's module and nothing else. `generate`
asks for a greedy answer, `score` for the log likelihood of each token of a text after its first.
"""

from __future__ import annotations

import time
from typing import Any

from serving import serve


def answer(rival: Any, request: dict[str, Any]) -> dict[str, Any]:
    if request["op"] == "score":
        return {"log_likelihoods": rival.score(request["ids"])}
    return written(rival, request["ids"], request["new"])


def written(rival: Any, ids: list[int], new: int) -> dict[str, Any]:
    """The tokens of one greedy answer, and when each of them was there, in seconds."""
    started, used = time.perf_counter(), time.process_time()
    tokens, times = [], []
    for token in rival.write(ids, new):
        tokens.append(int(token))
        times.append(time.perf_counter() - started)
    return {"tokens": tokens, "times": times, "cpu": time.process_time() - used}


if __name__ == "__main__":
    serve(answer)
