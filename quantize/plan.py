"""What each matrix product of a graph becomes: decided one activation at a time, then applied."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from edgetfm.quantize.blocks import shared_size
from edgetfm.quantize.edit import Editor
from edgetfm.quantize.embeddings import Embedding, find_embeddings
from edgetfm.quantize.facts import Facts
from edgetfm.quantize.folding import Fold, Indices, IntoColumns, apply_fold, find_fold
from edgetfm.quantize.linear import Linear, constant
from edgetfm.quantize.observe import Activation, token_size
from edgetfm.quantize.qdq import LEVELS
from edgetfm.quantize.recipes import Recipe
from edgetfm.quantize.rounding import Compensation, Matrix, Quantized, round_nearest
from edgetfm.quantize.smoothing import choose_smoothing, output_error, sparing
from edgetfm.quantize.spool import spooled


@dataclass(frozen=True)
class Int8Weight:
    """What a linear layer becomes: its int8 weight, and a new bias [outputs] if that changes.

    table: the name of the embedding table that the weight is, if it is shared with one.
    """

    weight: Quantized
    bias: Matrix | None = None
    table: str | None = None

    def divided(self, linear: Linear, columns: Indices, by: Matrix) -> Int8Weight:
        """The layer with these outputs divided: exact, for only scales and bias change."""
        scale = self.weight.scale.copy()
        scale[columns] /= by
        bias = self.bias
        if linear.bias is not None:
            bias = constant(linear.bias).copy() if bias is None else bias.copy()
            bias[columns] /= by
        return replace(self, weight=Quantized(self.weight.values, scale), bias=bias)


@dataclass(frozen=True)
class Decision:
    """What was decided about the products that read one activation, in the order of the graph.

    scale: [channels], what the activation is divided by; alpha: the strength it came from, 0 for
    none. errors: the relative squared error of each output, None without data.
    """

    scale: Matrix
    alpha: float
    weights: tuple[Int8Weight, ...]
    errors: tuple[float | None, ...]


Key = tuple[str, ...]


@dataclass
class Memo:
    """Decisions kept between graphs that are made from one model on the same data.

    Observing and rounding is nearly all the work, and a search makes many graphs that differ in a
    few nodes. decisions: each kind of plan has keys of its own. shapes: those of the longest
    calibration item.
    """

    decisions: dict[Key, Any] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)


class Plan:
    """The decisions so far: weights by node, tables by name, and where smoothing scales go.

    divisors: activation name -> [channels], what a Mul divides it by before it is quantized.
    """

    apart = False  # products that read one activation share its smoothing

    def __init__(
        self,
        model: ir.Model,
        recipe: Recipe,
        linears: Sequence[Linear],
        facts: Facts,
        *,
        folding: bool = True,
        in_blocks: Sequence[Linear] = (),
        apart: Collection[str] = (),
    ) -> None:
        """`folding`: whether scales go into weights in front, which changes float nodes too.

        in_blocks: products that others decide about; they too can read a table in 8 bits.
        apart: the names of tables that others decide about.
        """
        self.model = model
        self.folding = folding
        self.recipe = recipe
        self.linears = list(linears)
        self.in_blocks = list(in_blocks)
        self.facts = facts
        self.embeddings: list[Embedding] = []
        self.tables: dict[str, Quantized] = {}
        self.weights: dict[str, Int8Weight] = {}
        self.divisors: dict[str, Matrix] = {}
        self.folds: list[tuple[Fold, Matrix]] = []
        if recipe.embeddings:
            self._take_tables(apart)

    def _take_tables(self, apart: Collection[str]) -> None:
        products = [linear.node for linear in (*self.linears, *self.in_blocks)]
        safe = self._safe_weights()
        for embedding in find_embeddings(self.model):
            name = str(embedding.table.name)
            if name in apart:
                continue
            if not embedding.may_be_int8(products):
                self.facts.leave_table(name, "it is also used in float")
                continue
            self.embeddings.append(embedding)
            if name not in self.tables:
                self.tables[name], error = embedding.quantized(pair_safe=name in safe)
                self.facts.take_table(name, self.tables[name], error)

    @property
    def unsigned(self) -> dict[str, Quantized]:
        """The tables that are also the weights of products in blocks, which want uint8.

        Not those that an int8 product reads too, and not those that blocks do not divide: then
        the products in blocks have a weight of their own.
        """
        size = self.recipe.block_size
        fitting = {li.weight.name for li in self.in_blocks if shared_size(li.shape[0], size)}
        others = {linear.weight.name for linear in self.linears}
        return {n: table for n, table in self.tables.items() if n in fitting - others}

    def _safe_weights(self) -> set[str]:
        """The weights that some product needs to be pair-safe: all readers share a table."""
        return {str(li.weight.name) for li in self.linears if li.name in self.recipe.pair_safe}

    def decide(self, group: Sequence[Linear], seen: Activation | None) -> Decision:
        """Decide about the products that read one activation; `seen` is None without data."""
        matrices = [linear.matrix() for linear in group]
        scale, alpha = np.ones(group[0].shape[0], np.float32), 0.0
        if seen is not None and self.recipe.is_static:
            seen.sample = [np.concatenate(seen.sample)]  # one range serves all items
        strengths = self.recipe.smoothing
        tied = any(linear.weight.name in self.tables for linear in group)
        if seen is not None and strengths and not tied:
            best = choose_smoothing(seen, matrices, strengths, self._levels)
            free = find_fold(group[0].x, group, self.linears) is not None
            if best.alpha and (free or best.gain >= self.recipe.min_gain):
                scale, alpha = best.scale, best.alpha
        compensation = self._compensation(seen, scale)
        weights: list[Int8Weight] = []
        errors: list[float | None] = []
        for linear, matrix in zip(group, matrices, strict=True):
            new = self._rounded(linear, matrix * scale[:, None], compensation)
            weights.append(new)
            errors.append(None if seen is None else self._error(seen, matrix, new.weight, scale))
        return Decision(scale, alpha, tuple(weights), tuple(errors))

    def accept(self, group: Sequence[Linear], decision: Decision) -> None:
        """Take over what was decided, for this graph or another made from the same model."""
        where = "none"
        if decision.alpha:
            x = group[0].x
            fold = find_fold(x, group, self.linears) if self.folding else None
            where = self._place(str(x.name), fold, decision.scale)
        for linear, weight, error in zip(group, decision.weights, decision.errors, strict=True):
            self.weights[linear.name] = weight
            self.facts.take(linear, decision.alpha, where, error)

    def key(self, group: Sequence[Linear]) -> Key:
        """What a decision depends on besides the model and the data."""
        fold = find_fold(group[0].x, group, self.linears)
        names = [linear.name for linear in group]
        weights = {str(linear.weight.name) for linear in group}
        safe = [f"{weight} is pair-safe" for weight in sorted(weights & self._safe_weights())]
        recipe = self.recipe
        settings = (recipe.precision, recipe.smoothing, recipe.min_gain, recipe.rounding)
        tables = [str(li.weight.name) for li in group if li.weight.name in self.tables]
        return (*names, *safe, *tables, fold.name if fold else "", *map(str, settings))

    @property
    def _levels(self) -> int:
        """Steps of the grid of an activation."""
        return LEVELS[self.recipe.activation_bits]

    def _compensation(self, seen: Activation | None, scale: Matrix) -> Compensation | None:
        """What compensated rounding needs, if the recipe wants it; uses up the gram."""
        if seen is None or seen.gram is None or self.recipe.rounding == "nearest":
            return None
        gram, seen.gram = seen.gram, None
        gram /= scale
        gram /= scale[:, None]
        gram /= np.float32(seen.rows)
        return Compensation(gram, _noise(seen, scale, self._levels))

    def _error(self, seen: Activation, matrix: Matrix, weight: Quantized, scale: Matrix) -> float:
        """The mean squared error of the int8 output, relative to each token's float output."""
        rows = np.concatenate(seen.sample)
        every = sparing(len(rows), matrix.shape[1])
        wanted, rounded = rows[::every] @ matrix, weight.dequantized()
        return output_error(seen.sample, [rounded], scale, [wanted], self._levels, every)

    def _place(self, name: str, fold: Fold | None, scale: Matrix) -> str:
        if fold is None:
            self.divisors[name] = scale
            return "a Mul"
        self.folds.append((fold, scale))
        return f"folded into {fold.name}"

    def _rounded(
        self, linear: Linear, matrix: Matrix, compensation: Compensation | None
    ) -> Int8Weight:
        table = str(linear.weight.name)
        if table in self.tables:
            return Int8Weight(self.tables[table], table=table)
        rounded = round_nearest if compensation is None else compensation.round
        weight = rounded(matrix, pair_safe=table in self._safe_weights())
        return Int8Weight(Quantized(spooled(weight.values), weight.scale))

    def fold(self) -> None:
        """Put the scales that fold into the weights in front of their activations."""
        editor = Editor(self.model)
        for fold, scale in self.folds:
            if isinstance(fold, IntoColumns) and fold.linear.name in self.weights:
                weight = self.weights[fold.linear.name]
                self.weights[fold.linear.name] = weight.divided(fold.linear, fold.columns, scale)
            else:
                apply_fold(editor, fold, scale)


def _noise(seen: Activation, scale: Matrix, levels: int) -> float:
    """The variance that quantizing adds to an activation whose tokens have size 1."""
    variances = [
        np.square(np.ptp(np.append(x / scale, 0)) / levels / token_size(x)).ravel() / 12
        for x in seen.sample
    ]
    return float(np.concatenate(variances).mean()) if variances else 0.0
