"""A transformers model with the inputs and outputs of a task: as a module, and as an oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor, nn

from edgetfm import assets
from edgetfm.errors import SourceError
from edgetfm.runtime.shapes import asked
from edgetfm.signature import BATCH, FRAMES, Feeds, Signature, TensorSpec
from edgetfm.sources import _reference
from edgetfm.sources._source import Oracle, eager
from edgetfm.sources.adapter.table import ANSWERS
from edgetfm.tasks import TASKS


class Adapted(nn.Module):
    """A transformers model that gives the outputs of a task by name, and nothing else."""

    def __init__(self, model: Any, task: str, pooling: assets.Pooling) -> None:
        super().__init__()
        self.model, self.task, self.pooling = model, task, pooling
        self.config = model.config  # the exporter asks for it

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        """The inputs as transformers names them; the outputs are the task's."""
        answer = self.model(**inputs)
        make = ANSWERS.get(self.task)
        if make is not None:
            return make(self.model, answer, inputs, self.pooling)
        return {output.name: answer[output.name] for output in TASKS[self.task].outputs}


class ReadOnce:
    """A module that is read when it is needed, and again only after its weights were freed."""

    def __init__(self, module: Adapted, read: Callable[[], Adapted]) -> None:
        self._module, self._read = module, read

    def __call__(self) -> Adapted:
        """The module, with all its weights."""
        if not any(p.numel() for p in self._module.parameters()):
            self._module = self._read()
        return self._module


def answering(module: Adapted) -> Oracle:
    """A transformers model as a function from arrays to arrays, without its warnings.

    Raises SourceError for inputs that the model itself does not take.
    """
    ask = eager(module)

    def run(feeds: Feeds) -> Feeds:
        try:
            with _reference.quiet_transformers():
                return ask(feeds)
        except MemoryError:
            raise
        except Exception as error:  # whatever a model's own code raises
            given = ", ".join(f"{n} {a.dtype}{list(a.shape)}" for n, a in feeds.items())
            first = next(iter(str(error).splitlines()), "")
            raise SourceError(
                f"{type(module.model).__name__} does not answer to {given}: "
                f"{type(error).__name__}: {first}"
            ) from error

    return run


def outputs_of(module: Adapted, inputs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
    """The outputs' shapes, found by asking; a SourceError if the model does not answer."""
    run = answering(module)
    given = tuple(
        TensorSpec(o.name, "float32", (BATCH, FRAMES) if o.per_token else ())
        for o in TASKS[module.task].outputs
    )
    seen: list[tuple[Feeds, Feeds]] = []

    def ask(feeds: Feeds) -> Feeds:
        seen.append((feeds, run(feeds)))
        return seen[-1][1]

    outputs = asked(Signature(inputs, given), ask).outputs
    first, again = seen[0][1], run(seen[0][0])
    if any(not np.array_equal(first[n], again[n]) for n in first):
        kind = type(module.model).__name__
        raise SourceError(f"{kind} does not answer twice the same: it draws random numbers")
    return outputs
