"""What an objective is: rows of data, and how a batch of them is asked and answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edgetfm.training.data.parts import PARTS, Part

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100
"""The target of what is not learned: padding, and tokens that are given."""

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """What a module is asked, by input name, and what it should answer.

    targets: int64, the shape of the logits but for their last axis; IGNORED where nothing is
    learned.
    """

    feeds: dict[str, NDArray[Any]]
    targets: NDArray[np.int64]

    @property
    def count(self) -> int:
        """How many answers are wanted."""
        return int((self.targets != IGNORED).sum())

    def share(self, index: int, processes: int) -> Batch:
        """The rows of one of several processes; a row without an answer where none is left."""
        if processes == 1:
            return self
        rows = np.arange(len(self.targets))[index::processes]
        if len(rows):
            return Batch({k: v[rows] for k, v in self.feeds.items()}, self.targets[rows])
        one = Batch({k: v[:1] for k, v in self.feeds.items()}, self.targets[:1])
        return replace(one, targets=np.full_like(one.targets, IGNORED))


@dataclass(frozen=True)
class DataFacts:
    """What metrics.json says of the data: its name, its hash, the rows of each part.

    notes: what is not learned as it was given, and why.
    """

    name: str
    fingerprint: str
    train: int
    validation: int
    test: int
    notes: list[str] = field(default_factory=list, init=False)

    @classmethod
    def of(cls, name: str, fingerprint: str, parts: Mapping[Part, Sized]) -> DataFacts:
        """The facts of data whose parts hold so many rows."""
        return cls(name, fingerprint, **{part: len(parts[part]) for part in PARTS})

    def count(self, part: Part) -> int:
        """The rows of a part."""
        return int(getattr(self, part))


class Objective(Protocol):
    """Something to learn. `measure`: 'accuracy', 'perplexity', or that of an `OwnMeasure`."""

    data: DataFacts
    labels: tuple[str, ...]
    measure: str

    def follows(self) -> Mapping[str, Any]:
        """The fields of a family's config that follow from the data."""
        ...

    def batch(self, part: Part, rows: Rows, random: np.random.Generator | None) -> Batch:
        """These rows of a part; `random`, given in training, may change them."""
        ...

    def lengths(self, part: Part) -> Rows | None:
        """How long each row is, where rows of one length are learned together; else None."""
        ...

    def files(self, inputs: tuple[str, ...]) -> Mapping[str, bytes]:
        """What a checkpoint keeps: how inputs are made, a sample, examples."""
        ...


@runtime_checkable
class OwnMeasure(Protocol):
    """An objective with a measure of its own, of which more is better.

    A batch is what `Objective.batch` made.
    """

    def judge(self, outputs: Mapping[str, Tensor], batch: Batch) -> list[Any]:
        """What `score` needs to know of a batch; it may go from process to process."""
        ...

    def score(self, evidence: Sequence[Any]) -> float:
        """The measure over all that `judge` gave."""
        ...


@runtime_checkable
class OwnLoss(OwnMeasure, Protocol):
    """An objective whose loss is no cross entropy of logits, and so its measure no usual one."""

    def loss(self, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """What is made small, summed over the batch's answers."""
        ...
