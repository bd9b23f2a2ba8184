"""A bundle in the making: what is known of the model, and what has been made of it so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgetfm.beside import Beside
from edgetfm.budget import Budget, is_bound
from edgetfm.bundle import BundleWriter
from edgetfm.ledger import Ledger
from edgetfm.manifest import Component, Variant
from edgetfm.parity import Measures
from edgetfm.progress import Progress
from edgetfm.proof import Subject
from edgetfm.search.evidence import Evidence
from edgetfm.signature import Feeds, Signature
from edgetfm.stages import Graph, graph_of

if TYPE_CHECKING:
    from edgetfm.search.candidates import Tried
    from edgetfm.search.metric import BoundMetric


@dataclass
class Draft:
    """A bundle in the making.

    truth: PyTorch's answers to the evidence's cases, or to the first of them, when a bundle is
    quantized without PyTorch. judged: its answers, or the fp32 graph's, to what it is judged by;
    asked: those that are being given. signatures: of each component. variants: precision ->
    component -> its file.
    """

    writer: BundleWriter
    subject: Subject
    evidence: Evidence
    signatures: dict[str, Signature]
    budget: str
    progress: Progress
    notes: list[str]
    truth: list[Feeds] = field(default_factory=list)
    judged: list[Feeds] = field(default_factory=list)
    asked: Beside[list[Feeds]] | None = None
    metric: BoundMetric | None = None
    variants: dict[str, dict[str, Variant]] = field(default_factory=dict)
    tried: list[Tried] = field(default_factory=list)
    session: dict[str, Any] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)

    def path(self, precision: str) -> Graph:
        """The graph of a variant, where it is being made."""
        of = self.variants[precision].items()
        return graph_of({component: self.writer.path(v.file) for component, v in of})

    @property
    def components(self) -> dict[str, Component]:
        """What a manifest says of the graphs."""
        return {
            name: Component(signature, {p: v[name] for p, v in self.variants.items()})
            for name, signature in self.signatures.items()
        }

    def files(self, precision: str) -> list[str]:
        """The names in the bundle of a variant's graphs and weights."""
        variants = self.variants[precision].values()
        return [name for v in variants for name in (v.file, v.data) if name is not None]

    def bytes(self, precision: str) -> int:
        """The size of a variant's graph and weights."""
        return sum(self.writer.entries[name].bytes for name in self.files(precision))

    def use(self, measures: Mapping[str, Measures]) -> float:
        """How much of the budget these answers use up, on the outputs that it binds."""
        bound = self.subject.judged_output
        held = [m for name, m in measures.items() if is_bound(name, bound)]
        return Budget.parse(self.budget).use(held)

    def drop(self, precision: str) -> None:
        """Take a variant out."""
        for name in self.files(precision):
            self.writer.discard(name)
        del self.variants[precision]
