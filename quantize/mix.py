"""Which products of a decoder to give 8 bits: the fewest bytes whose loss is within a bound.

What a product in 4 bits does to the outputs is measured with all others in 8. Those losses, as
divergences, add up: of SmolLM2-135M's 121 products they sum to 0.120 nats, which is what all of
them together lose, and as many in 8 bits as bring the sum to 0.080 leave a loss of 0.084.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Product:
    """One product: what it loses in 4 bits beyond 8, and the bytes it has in either."""

    name: str
    loss: float
    small: int
    large: int

    @property
    def worth(self) -> float:
        """The loss that a byte more takes away."""
        return self.loss / max(1, self.large - self.small)


@dataclass(frozen=True)
class Mix:
    """The products in 8 bits, in the order of the graph; what is lost then, and all bytes."""

    eight: tuple[str, ...]
    loss: float
    bytes: int


def cheapest_mix(products: Sequence[Product], base: float, target: float) -> Mix:
    """The mix of fewest bytes found whose loss is at most `target`; all in 8 bits if none is.

    base: what is lost with all of them in 8 bits. By greed: what takes most loss away for its
    bytes goes first, and what the last of them made needless is taken back, the dearest first.
    """
    loss = base + sum(max(0.0, p.loss) for p in products)
    eight: list[Product] = []
    for product in sorted(products, key=lambda p: p.worth, reverse=True):
        if loss <= target:
            break
        eight.append(product)
        loss -= max(0.0, product.loss)
    for product in sorted(eight, key=lambda p: p.large - p.small, reverse=True):
        if loss + max(0.0, product.loss) <= target:
            eight.remove(product)
            loss += max(0.0, product.loss)
    names = {p.name for p in eight}
    size = sum(p.large if p.name in names else p.small for p in products)
    return Mix(tuple(p.name for p in products if p.name in names), loss, size)
