"""llama.cpp through its Python bindings: a GGUF file."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from llama_cpp import Llama


class Rival:
    def __init__(self, request: dict[str, Any]) -> None:
        file, threads = Path(request["model"]), request["threads"]
        self.model = Llama(
            str(file), n_ctx=1024, n_threads=threads, n_threads_batch=threads, verbose=False
        )
        self.versions = {"llama-cpp-python": version("llama-cpp-python")}
        self.bytes = file.stat().st_size

    def write(self, ids: list[int], new: int) -> Iterator[int]:
        self.model.reset()
        for number, token in enumerate(self.model.generate(ids, temp=0.0, repeat_penalty=1.0)):
            yield token
            if number + 1 == new:
                return
