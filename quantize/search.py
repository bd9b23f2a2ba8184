"""Which products to leave out of int8: the fewest that bring the outputs back inside the budget.

Each node's effect on the outputs is measured, not guessed from its own rounding error: an error
that later layers forget costs nothing, and a small one in front of a norm may cost a lot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from edgetfm.progress import Progress, quiet


@dataclass(frozen=True)
class Effect:
    """What a choice does to the outputs.

    loss: how far they are from float, in a measure without steps. use: how much of the budget is
    used up; 1 is all of it.
    """

    loss: float
    use: float

    @classmethod
    def read(cls, saved: object) -> Effect | None:
        """What was saved as [loss, use]; None for anything else."""
        if isinstance(saved, list) and len(saved) == 2:
            loss, use = saved
            if isinstance(loss, float) and isinstance(use, float):
                return cls(loss, use)
        return None


Measure = Callable[[frozenset[str]], Effect]
"""The effect on the outputs when these products are kept out of int8 and all others are in."""


@dataclass(frozen=True)
class Sensitivity:
    """What was found out about the products.

    order: the products, the one first whose return to float gains most for its share of the
    work. gains: by how much the loss shrinks when it alone returns. kept: the first of the order
    that bring the use under the target, less those that turned out not to be needed; all of
    `order` if nothing does. use: what is used then.
    """

    order: tuple[str, ...]
    gains: dict[str, float]
    kept: tuple[str, ...]
    use: float
    log: list[dict[str, float | int | str]] = field(default_factory=list)


def find_sensitive(
    names: Sequence[str],
    costs: Mapping[str, float],
    measure: Measure,
    *,
    target: float,
    out_of_time: Callable[[], bool] = lambda: False,
    progress: Progress = quiet,
) -> Sensitivity:
    """The products to leave out of int8, the cheapest set found whose use is at most `target`.

    costs: each product's share of the work. One measurement a product gives the order, a
    bisection the number, and as many again take back those that the others made needless. Out of
    time, what is known so far is used: unmeasured products come last.
    """
    whole = measure(frozenset())
    log: list[dict[str, float | int | str]] = [_entry("all in int8", 0, whole)]
    gains: dict[str, float] = {}
    for done, name in enumerate(names):
        if out_of_time():
            break
        gains[name] = whole.loss - measure(frozenset({name})).loss
        progress("measuring each node's effect", done + 1, len(names))
    order = sorted(
        names,
        key=lambda name: gains.get(name, float("-inf")) / max(costs[name], 1e-9),
        reverse=True,
    )
    if whole.use <= target:
        return Sensitivity(tuple(order), gains, (), whole.use, log)
    count, use = _fewest(order, measure, target, log, progress)
    kept = list(order[:count])
    if use <= target:
        kept, use = _without_needless(kept, costs, measure, target, use, out_of_time, progress)
        log.append(_entry("without the needless", len(kept), Effect(0.0, use)))
    return Sensitivity(tuple(order), gains, tuple(kept), use, log)


def _fewest(
    order: Sequence[str],
    measure: Measure,
    target: float,
    log: list[dict[str, float | int | str]],
    progress: Progress,
) -> tuple[int, float]:
    """How many of the order it takes, by bisection, and what is used then; all if none will do.

    More nodes in float may by chance be worse, so the count is one that was itself measured.
    """
    low, high = 0, len(order)
    best = measure(frozenset(order)).use
    log.append(_entry("none in int8", high, Effect(0.0, best)))
    if best > target:
        return high, best
    while high - low > 1:
        middle = (low + high) // 2
        effect = measure(frozenset(order[:middle]))
        log.append(_entry("the most sensitive left out", middle, effect))
        progress("looking for the nodes to leave out", 0, 0)
        if effect.use <= target:
            high, best = middle, effect.use
        else:
            low = middle
    return high, best


def _without_needless(
    kept: list[str],
    costs: Mapping[str, float],
    measure: Measure,
    target: float,
    use: float,
    out_of_time: Callable[[], bool],
    progress: Progress,
) -> tuple[list[str], float]:
    """Return products to int8, the dearest first, as long as the budget is kept."""
    tried = sorted(kept, key=lambda name: costs[name], reverse=True)
    for done, name in enumerate(tried):
        if out_of_time() or len(kept) == 1:
            break
        rest = [other for other in kept if other != name]
        now = measure(frozenset(rest)).use
        if now <= target:
            kept, use = rest, now
        progress("taking back what is not needed", done + 1, len(tried))
    return kept, use


def _entry(step: str, nodes: int, effect: Effect) -> dict[str, float | int | str]:
    return {"step": step, "nodes_left_out": nodes, "use": float(f"{effect.use:.3g}")}
