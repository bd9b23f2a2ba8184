"""What a sense's row says, and what is known of a transformers model beside its own config."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from edgetfm import assets
from edgetfm.signature import Signature, TensorSpec


@dataclass(frozen=True)
class AdapterConfig:
    """What is known of a transformers model beside its own config.

    longest: the most tokens it takes. image_size: (height, width). least: the fewest samples of a
    wave; convolutions: kernel and stride of each that shortens it; letters: whether its frames
    are written down. The fields of a sense that a model does not have are zero.
    """

    model_type: str
    longest: int = 0
    vocabulary: int = 0
    image_size: tuple[int, int] = (0, 0)
    channels: int = 0
    least: int = 0
    convolutions: tuple[tuple[int, int], ...] = ()
    letters: bool = False
    pooling: str = "mean"
    normalize: bool = False


Answer = Callable[[Any, Any, Mapping[str, Tensor], assets.Pooling], dict[str, Tensor]]
"""(model, its answer, its inputs, pooling) -> the outputs of a task by name."""


@dataclass(frozen=True)
class SenseRow:
    """One sense of the adapter.

    main: the input that a model of this sense takes, or other_main. body: the task of a model
    without a head. facts: (model, folder, pooling) -> fields of AdapterConfig. inputs: (model,
    folder, config) -> what the graph takes, its first axis `batch`. refuse: raises SourceError
    for a model whose inputs cannot be made. check: raises SourceError where what edgetfm makes of
    an item is not what transformers makes. answers: task -> its outputs, where they are not the
    model's by name.
    """

    main: str
    body: str
    facts: Callable[[Any, Path, assets.Pooling], dict[str, Any]]
    inputs: Callable[[Any, Path, AdapterConfig], tuple[TensorSpec, ...]]
    refuse: Callable[[Any], None] = lambda _model: None
    check: Callable[[Path, assets.Prepared, Signature], None] = lambda *_: None
    answers: Mapping[str, Answer] = field(default_factory=dict)
    other_main: str | None = None

    def main_of(self, takes: Mapping[str, Any]) -> str:
        """What a model that takes these calls its input."""
        return self.other_main if self.main not in takes and self.other_main else self.main


def parameters(model: Any) -> Mapping[str, Any]:
    """What a model's forward takes, by name."""
    return inspect.signature(type(model).forward).parameters
