"""Weights that are read when they are asked for: a model needs no more memory than its largest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class LazyWeight:
    """A weight whose shape and dtype are known and whose values `read` brings.

    It has those of a tensor's methods that the rules of a family use; each gives another lazy
    weight.
    """

    shape: torch.Size
    dtype: torch.dtype
    read: Callable[[], Tensor]

    @classmethod
    def of(cls, tensor: Tensor) -> LazyWeight:
        """A tensor that is at hand, or backed by a file."""
        return cls(tensor.shape, tensor.dtype, lambda: tensor)

    @classmethod
    def joined(cls, parts: Sequence[LazyWeight]) -> LazyWeight:
        """The parts one after the other along the first axis."""
        import torch

        rows = sum(part.shape[0] for part in parts)
        dtype = parts[0].dtype
        for part in parts[1:]:
            dtype = torch.promote_types(dtype, part.dtype)
        return cls(
            torch.Size((rows, *parts[0].shape[1:])),
            dtype,
            lambda: torch.cat([part.read() for part in parts]),
        )

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    def is_floating_point(self) -> bool:
        """Whether its values are floats."""
        return self.dtype.is_floating_point

    def t(self) -> LazyWeight:
        """The two axes swapped."""
        return self.transpose(0, 1)

    def transpose(self, one: int, other: int) -> LazyWeight:
        """Two axes swapped."""
        shape = list(self.shape)
        shape[one], shape[other] = shape[other], shape[one]
        return self._with(shape, self.dtype, lambda w: w.transpose(one, other))

    def __add__(self, number: float) -> LazyWeight:
        return self._with(self.shape, self.dtype, lambda w: w + number)

    def _with(
        self, shape: Sequence[int], dtype: torch.dtype, change: Callable[[Any], Any]
    ) -> LazyWeight:
        import torch

        return LazyWeight(torch.Size(shape), dtype, lambda: change(self.read()))

    def float(self) -> LazyWeight:
        """In float32."""
        import torch

        return self._with(self.shape, torch.float32, lambda w: w.float())
