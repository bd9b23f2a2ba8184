"""Rivals as processes: one each, in its own environment, spoken to in lines of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

from environments import environment

WORKER = Path(__file__).with_name("rivals") / "worker.py"


@dataclass(frozen=True)
class Rival:
    """What is measured: a module of rivals/, the environment it runs in, and its settings."""

    title: str
    module: str
    environment: str | None = None  # None: the Python that runs the benchmark
    settings: tuple[tuple[str, str], ...] = ()


class Worker:
    """A rival's process; answers one request at a time."""

    def __init__(
        self, rival: Rival, folder: Path, core: int | str | None, script: Path = WORKER
    ) -> None:
        """`core`: the core it keeps to, or several with commas between them."""
        self.rival = rival
        self.folder = folder
        self.log = folder / "log.txt"
        folder.mkdir(parents=True)
        python = environment(rival.environment) if rival.environment else sys.executable
        one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
        environ = {**os.environ, **one_thread, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "0"}
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [python, script, rival.module, "-" if core is None else str(core)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environ,
            )

    def ask(self, op: str, **request: Any) -> dict[str, Any]:
        """The worker's answer; SystemExit with the end of its log where it failed."""
        stdin, stdout = self._pipes()
        try:
            stdin.write(json.dumps({"op": op, **request}) + "\n")
            stdin.flush()
            line = stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self.process.wait(timeout=20)  # its last words are in the log when it has ended
            tail = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise SystemExit(f"{self.rival.title} failed at {op!r}:\n{tail}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def prepare(self, source: Path, calibration: Sequence[Sequence[int]]) -> dict[str, Any]:
        """Versions and size on disk, once the rival is loaded and ready."""
        settings = dict(self.rival.settings)
        folder = str(self.folder / "model")
        return self.ask(
            "prepare", source=str(source), folder=folder, calibration=calibration, **settings
        )

    def embed(self, batch: Sequence[Sequence[int]]) -> list[list[float]]:
        """One mean-pooled embedding for each list of token ids, run one by one."""
        embeddings: list[list[float]] = self.ask("embed", ids=batch)["embeddings"]
        return embeddings

    def time(self, ids: Sequence[int], calls: int) -> tuple[float, float]:
        """Milliseconds of one call, by the clock and of processor time; the median of `calls`."""
        answer = self.ask("time", ids=ids, calls=calls)
        return answer["wall_ms"], answer["cpu_ms"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        stdin, stdout = self._pipes()
        try:
            stdin.close()  # the worker's loop ends with its input
            self.process.wait(timeout=20)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        finally:
            stdout.close()

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("a worker is started with pipes")
        return self.process.stdin, self.process.stdout


def timing_core() -> int | None:
    """The core every worker shares: the last one, as interrupts like the first. None: unknown."""
    if sys.platform != "linux":
        return None
    return max(os.sched_getaffinity(0))
