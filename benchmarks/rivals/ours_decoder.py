"""An edgetfm bundle that generates text, through the loop that `edgetfm run` uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from shared import folder_bytes, log_likelihoods, versions

import edgetfm
from edgetfm.runtime.generation.decoder import Binding, Decoder
from edgetfm.runtime.generation.generator import Generator
from edgetfm.runtime.generation.options import GenerationOptions
from edgetfm.runtime.generation.rows import Row


class Rival:
    def __init__(self, request: dict[str, Any]) -> None:
        bundle = Path(request["model"])
        self.generator = Generator(Decoder(edgetfm.load(bundle, threads=request["threads"])))
        self.versions = {"edgetfm": edgetfm.__version__, **versions("onnxruntime")}
        self.bytes = folder_bytes(bundle)

    def write(self, ids: list[int], new: int) -> Iterator[int]:
        self.generator.forget()  # what the last prompt left would be read from the cache
        row = Row(ids, GenerationOptions(max_new_tokens=new))
        for _ in self.generator.write([row]):
            yield row.tokens[-1]

    def score(self, ids: list[int]) -> list[float]:
        decoder = self.generator.decoder
        binding = Binding(decoder, decoder.cache(1, len(ids)))
        logits = binding.step(np.array([ids]), [len(ids)], every=True)
        return log_likelihoods(logits[0], ids)
