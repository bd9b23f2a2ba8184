"""Which integer products of a quantized graph overflow on x86 CPUs with AVX2 and without VNNI.

There onnxruntime multiplies u8 activations with s8 weights by VPMADDUBSW: the products of inputs
2i and 2i + 1 are added in 16 bits, and a sum that does not fit is cut to -32768 or 32767. The
activations are the steps as they are, their zero point not taken off. Other CPUs add in 32 bits.

Nothing is emulated: the graph runs here on calibration data, and its pair sums are done over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgetfm.errors import DataError
from edgetfm.graphs import infer_shapes, read_graph
from edgetfm.progress import Progress, quiet
from edgetfm.quantize.apply import quantize_graph
from edgetfm.quantize.items import Item, items
from edgetfm.quantize.linear import name_of
from edgetfm.quantize.pieces import Walk
from edgetfm.quantize.plan import Memo
from edgetfm.quantize.products import Product, find_products
from edgetfm.quantize.recipes import Recipe
from edgetfm.signature import Array, Feeds

SAMPLE_ROWS = 2048
"""Tokens that are looked at, as whole items from all over the data."""

_LEAST_ITEMS = 16

PIECE_BYTES = 64 << 20
"""What the sampled activations that are in memory together may take."""

_EXACT = {"config_entries": {"session.x64quantprecision": "1"}}
"""Right sums on this machine too, whatever it is: else what is replayed would itself be wrong."""

_LOW, _HIGH = -32768, 32767
_COLUMNS = 128  # outputs that are summed together: their sums stay in the cache


@dataclass(frozen=True)
class Overflow:
    """An integer product that overflows.

    node: its name in the float graph. pairs: how many pair sums do not fit in 16 bits, of how
    many that were looked at. error: the relative root mean square error of the product that this
    makes.
    """

    node: str
    pairs: int
    of: int
    error: float

    def to_json(self) -> dict[str, Any]:
        """The form it has in the facts of a variant."""
        return asdict(self) | {"error": float(f"{self.error:.3g}")}


@dataclass
class _Seen:
    """The rows of one activation, u8, and of each row the scale and the zero point of its item."""

    rows: list[NDArray[np.uint8]] = field(default_factory=list)
    scale: list[float] = field(default_factory=list)
    zero: list[int] = field(default_factory=list)

    def add(self, product: Product, tensors: Feeds) -> None:
        """Take in one item, unless there is enough."""
        if len(self.scale) < SAMPLE_ROWS:
            steps = tensors[str(product.x.name)]
            rows = steps.reshape(-1, steps.shape[-1])[: SAMPLE_ROWS - len(self.scale)]
            self.rows.append(rows.copy())
            self.scale += [float(_single(product.scale, tensors, 1.0))] * len(rows)
            self.zero += [int(_single(product.zero, tensors, 0))] * len(rows)


def overflows(
    graph: Path | ir.Model, feeds: Sequence[Feeds], *, progress: Progress = quiet
) -> list[Overflow]:
    """The integer products of a quantized graph that overflow on calibration data, in graph order.

    Looked at are the items that `sample` takes of `feeds`; the answer is the same on every
    machine. Raises DataError if there is no data.
    """
    model = infer_shapes(read_graph(graph) if isinstance(graph, Path) else graph.clone())
    products = find_products(model)
    if not products:
        return []
    taken = sample(feeds)
    if not taken:
        raise DataError("no calibration data: every item is empty or masked out")
    found = []
    parts = list(_parted(products))
    wanted = [_tensors(part) for part in parts]
    with Walk(model, taken, wanted, settings=_EXACT) as walk:
        for number, part in enumerate(parts):
            seen = {str(product.x.name): _Seen() for product in part}
            readers = {str(product.x.name): product for product in part}
            for _, tensors in walk.piece(number):
                for name, product in readers.items():
                    seen[name].add(product, tensors)
            for product in part:
                progress("adding in 16 bits", products.index(product) + 1, len(products))
                overflow = _judge(product, seen[str(product.x.name)])
                found += [overflow] if overflow.pairs else []
    return found


def sample(feeds: Sequence[Feeds]) -> list[Item]:
    """Items from all over the data that have SAMPLE_ROWS tokens together, or all there are."""
    found = list(items(feeds))
    if not found:
        return []
    tokens = sum(item.tokens for item in found) / len(found)
    wanted = min(len(found), max(_LEAST_ITEMS, round(SAMPLE_ROWS / tokens)))
    places = np.linspace(0, len(found) - 1, wanted).round().astype(int)
    return [found[place] for place in dict.fromkeys(places.tolist())]


def make_safe(
    model: ir.Model,
    recipe: Recipe,
    feeds: Sequence[Feeds],
    *,
    memo: Memo | None = None,
    progress: Progress = quiet,
) -> tuple[ir.Model, dict[str, Any], Recipe]:
    """A graph made from the float32 `model` by `recipe`, no product of which overflows.

    Returns the graph, the facts, with what overflowed under "saturation", and the recipe that
    makes this graph: the products that overflowed on the calibration data are its `pair_safe`,
    and no data overflows those. The others are rounded as ever. Raises what `quantize_graph` and
    `overflows` do.
    """
    memo = memo or Memo()
    order = [name_of(node) for node in model.graph]
    cured: dict[str, Overflow] = {}
    while True:
        made, facts = quantize_graph(model, recipe, feeds, memo=memo, progress=progress)
        new = {o.node: o for o in overflows(made, feeds, progress=progress)}
        if not new.keys() - set(recipe.pair_safe):
            break
        cured |= new
        names = sorted({*recipe.pair_safe, *new}, key=order.index)
        recipe = replace(recipe, pair_safe=tuple(names))
    facts["saturation"] = {
        "items": len(sample(feeds)),
        "cured": [overflow.to_json() for overflow in cured.values()],
    }
    return made, facts, recipe


def pair_overflow(
    steps: NDArray[np.uint8], weight: NDArray[np.int8]
) -> tuple[int, NDArray[np.int32]]:
    """How many sums of two products overflow 16 bits, and by how much each output is off.

    steps: [tokens, inputs], weight: [inputs, outputs], the result [tokens, outputs]: the exact
    product is the saturating one plus this.
    """
    if len(weight) % 2:
        steps, weight = np.pad(steps, ((0, 0), (0, 1))), np.pad(weight, ((0, 1), (0, 0)))
    left, right = (steps[:, i::2].T.astype(np.int32, order="C") for i in (0, 1))
    lost = np.zeros((len(steps), weight.shape[1]), np.int32)
    count = 0
    for start in range(0, weight.shape[1], _COLUMNS):
        block = weight[:, start : start + _COLUMNS].astype(np.int32)
        above, below = block[0::2], block[1::2]
        part = np.zeros((len(steps), block.shape[1]), np.int32)
        for pair, columns in _suspects(left, right, above, below):
            rows = np.flatnonzero(left[pair] + right[pair] > _HIGH // 128)
            sums = np.outer(left[pair, rows], above[pair, columns])
            sums += np.outer(right[pair, rows], below[pair, columns])
            sums -= np.clip(sums, _LOW, _HIGH)
            if over := int(np.count_nonzero(sums)):
                count += over
                part[np.ix_(rows, columns)] += sums
        lost[:, start : start + _COLUMNS] = part
    return count, lost


def _suspects(
    left: Array, right: Array, above: Array, below: Array
) -> Iterator[tuple[int, NDArray[np.intp]]]:
    """The pairs, and the outputs of each, where the largest steps seen might not fit."""
    a, b = left.max(axis=1, keepdims=True), right.max(axis=1, keepdims=True)
    most = a * above.clip(0) + b * below.clip(0)
    least = a * above.clip(None, 0) + b * below.clip(None, 0)
    possible = (most > _HIGH) | (least < _LOW)
    for pair in np.flatnonzero(possible.any(axis=1)):
        yield int(pair), np.flatnonzero(possible[pair])


def _judge(product: Product, seen: _Seen) -> Overflow:
    steps, weight = np.concatenate(seen.rows), product.matrix()
    count, lost = pair_overflow(steps, weight)
    error = 0.0
    if count:
        scale = np.array(seen.scale, np.float32)[:, None] * product.step
        real = steps.astype(np.float32) - np.array(seen.zero, np.float32)[:, None]
        exact = np.linalg.norm((real @ weight.astype(np.float32)) * scale)
        error = float(np.linalg.norm(lost * scale) / exact) if exact else float("inf")
    looked_at = lost.size * ((len(weight) + 1) // 2)
    return Overflow(product.name, count, looked_at, error)


def _parted(products: Sequence[Product]) -> Iterator[list[Product]]:
    """The products in order, in parts whose sampled activations fit in PIECE_BYTES."""
    part: list[Product] = []
    sizes: dict[str, int] = {}
    for product in products:
        name, size = str(product.x.name), SAMPLE_ROWS * product.channels
        if part and name not in sizes and sum(sizes.values()) + size > PIECE_BYTES:
            yield part
            part, sizes = [], {}
        part.append(product)
        sizes[name] = size
    if part:
        yield part


def _tensors(part: Sequence[Product]) -> list[str]:
    values = [value for p in part for value in (p.x, p.scale, p.zero)]
    return list(dict.fromkeys(str(v.name) for v in values if v is not None and not v.const_value))


def _single(value: ir.Value | None, tensors: Feeds, default: float) -> float:
    """A number that is constant, or was computed."""
    if value is None:
        return default
    if value.const_value is not None:
        return float(value.const_value.numpy().ravel()[0])
    return float(tensors[str(value.name)].ravel()[0])
