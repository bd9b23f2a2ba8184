"""A rival's side of the conversation: python asr_worker.py MODULE CORES.

Runs in the rival's own environment, so it imports the rival's module and nothing else.
"""

from __future__ import annotations

import time
import wave
from typing import Any

import numpy as np
from serving import serve


def heard(rival: Any, request: dict[str, Any]) -> dict[str, Any]:
    """The text of one clip, and the seconds it took, by the clock and of processor time.

    What is given is samples: nobody is timed at reading a file.
    """
    samples = samples_of(request["clip"])
    started, used = time.perf_counter(), time.process_time()
    text = rival.hear(samples)
    return {
        "text": text,
        "wall": time.perf_counter() - started,
        "cpu": time.process_time() - used,
    }


def samples_of(clip: str) -> np.ndarray:
    """A file of 16-bit samples at 16 kHz, one channel, as float32 from -1 to 1."""
    with wave.open(clip, "rb") as file:
        if (file.getnchannels(), file.getsampwidth(), file.getframerate()) != (1, 2, 16_000):
            raise ValueError(f"{clip} is not one channel of 16 bits at 16 kHz")
        data = file.readframes(file.getnframes())
    return np.frombuffer(data, "<i2").astype(np.float32) / 32768.0


if __name__ == "__main__":
    serve(heard)
