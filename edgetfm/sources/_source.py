"""A model that was found, understood and checked, and that can be built when it is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from edgetfm.models._family import Family, Stage
from edgetfm.models._lazy import LazyWeight
from edgetfm.proof import Subject
from edgetfm.signature import Feeds, Signature, nested
from edgetfm.sources._weights import empty
from edgetfm.stages import MODEL
from edgetfm.tasks import TASKS

Oracle = Callable[[Feeds], Feeds]
Streamed = tuple[nn.Module, dict[str, LazyWeight]]
"""A module without weights (its tensors are on the meta device), and the weights by name."""


@dataclass(frozen=True)
class Source:
    """One model. Nothing heavy is kept: `module()` and `reference()` build anew on every call.

    config: the family's. route: `native`. provenance: kind, name, and the sha256 of weights and
    config. assets: files that go to a bundle's root. preprocessing: for the manifest. sample:
    example inputs of a checkpoint of ours. cases: what a module is proven on, if it came with
    inputs, and examples: those whose rows are calibrated on. notes: what the user should hear.
    generation: of a decoder, what the manifest says of its cache and tokens.
    """

    kind: Literal["huggingface", "checkpoint", "module", "peft", "gguf", "ctranslate2"]
    name: str
    family: Family
    config: Any
    task: str
    provenance: dict[str, Any]
    build_module: Callable[[], nn.Module]
    build_reference: Callable[[], Oracle]
    assets: dict[str, bytes] = field(default_factory=dict)
    preprocessing: dict[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    licence: str | None = None
    sample: Path | None = None
    cases: tuple[Feeds, ...] = ()
    examples: Feeds | None = None
    notes: tuple[str, ...] = ()
    route: str = "native"
    generation: dict[str, Any] = field(default_factory=dict)
    build_streamed: Callable[[], Streamed] | None = None

    @property
    def signature(self) -> Signature:
        """What the graph of this model takes and gives."""
        return Signature(
            self.family.inputs(self.config, self.task), self.family.outputs(self.config, self.task)
        )

    @property
    def signatures(self) -> dict[str, Signature]:
        """What each graph of this model takes and gives."""
        config, task = self.config, self.task
        return {
            stage.name: Signature(stage.inputs(config, task), stage.outputs(config, task))
            for stage in self.stages
        }

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Its graphs: one that is the whole module, unless its family has several."""
        family = self.family
        return family.stages or (Stage(MODEL, lambda m: m, family.inputs, family.outputs),)

    @property
    def subject(self) -> Subject:
        """What its variants are compared by."""
        task = TASKS[self.task].on(self.signature, self.preprocessing)
        return Subject(task, self.signature.of_whole_texts)

    def module(self) -> nn.Module:
        """The family's module with the weights, for inference, in float32."""
        return self.build_module()

    @property
    def streams(self) -> bool:
        """Whether the graph can be made without all weights in memory, by `streamed`."""
        return self.build_streamed is not None

    def streamed(self) -> Streamed:
        """The module without its weights, and those as they are read one by one."""
        assert self.build_streamed is not None
        return self.build_streamed()

    def of_depth(self, layers: int) -> tuple[nn.Module, Any]:
        """The module with so many layers, without its weights, and the config of that."""
        config = replace(self.config, layers=layers)
        return empty(lambda: self.family.build(config, self.task)).eval(), config

    def reference(self) -> Oracle:
        """The oracle: the same weights in eager PyTorch, arrays in and out, in float32."""
        return self.build_reference()


def eager(module: nn.Module) -> Oracle:
    """A module as a function from arrays to arrays."""

    def run(feeds: Feeds) -> Feeds:
        with torch.inference_mode():
            outputs = module(**nested({name: torch.from_numpy(a) for name, a in feeds.items()}))
        return {name: tensor.numpy() for name, tensor in outputs.items()}

    return run
