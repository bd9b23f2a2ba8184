"""A bundle in the making: what is known of the model, and what has been made of it so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetfm.budget import Budget, is_bound
from edgetfm.bundle import BundleWriter, Variant
from edgetfm.ledger import Ledger
from edgetfm.parity import Measures
from edgetfm.progress import Progress
from edgetfm.proof import Subject
from edgetfm.search.evidence import Evidence
from edgetfm.signature import Feeds

if TYPE_CHECKING:
    from edgetfm.search.candidates import Tried
    from edgetfm.search.metric import BoundMetric


FP32 = "onnx/model.onnx"
"""The float32 graph in a bundle; the variants' names follow from it."""


@dataclass
class Draft:
    """A bundle in the making.

    truth: PyTorch's answers to the evidence's cases, or to the first of them, when a bundle is
    quantized without PyTorch. judged: its answers, or the fp32 graph's, to what it is judged by.
    """

    writer: BundleWriter
    subject: Subject
    evidence: Evidence
    budget: str
    progress: Progress
    notes: list[str]
    truth: list[Feeds] = field(default_factory=list)
    judged: list[Feeds] = field(default_factory=list)
    metric: BoundMetric | None = None
    variants: dict[str, Variant] = field(default_factory=dict)
    tried: list[Tried] = field(default_factory=list)
    session: dict[str, Any] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)

    def path(self, precision: str) -> Path:
        """The graph of a variant, where it is being made."""
        return self.writer.path(self.variants[precision].file)

    def bytes(self, precision: str) -> int:
        """The size of a variant's graph and weights."""
        variant = self.variants[precision]
        names = [variant.file, *([variant.data] if variant.data else [])]
        return sum(self.writer.entries[name].bytes for name in names)

    def use(self, measures: Mapping[str, Measures]) -> float:
        """How much of the budget these answers use up, on the outputs that it binds."""
        bound = self.subject.judged_output
        held = [m for name, m in measures.items() if is_bound(name, bound)]
        return Budget.parse(self.budget).use(held)

    def drop(self, precision: str) -> None:
        """Take a variant out."""
        variant = self.variants.pop(precision)
        for name in (variant.file, variant.data):
            if name is not None:
                self.writer.discard(name)
