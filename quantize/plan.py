"""What each matrix product of a graph becomes: decided one activation at a time, then applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from edgetfm.quantize.edit import Editor
from edgetfm.quantize.embeddings import Embedding, find_embeddings
from edgetfm.quantize.facts import Facts
from edgetfm.quantize.folding import Fold, Indices, IntoColumns, apply_fold, find_fold
from edgetfm.quantize.linear import Linear, constant
from edgetfm.quantize.observe import Activation, token_size
from edgetfm.quantize.recipes import Recipe
from edgetfm.quantize.rounding import Compensation, Matrix, Quantized, round_nearest
from edgetfm.quantize.smoothing import choose_smoothing, output_error
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


class Plan:
    """The decisions so far: weights by node, tables by name, and where smoothing scales go.

    divisors: activation name -> [channels], what a Mul divides it by before it is quantized.
    """

    def __init__(
        self, model: ir.Model, recipe: Recipe, linears: Sequence[Linear], facts: Facts
    ) -> None:
        self.model = model
        self.recipe = recipe
        self.linears = list(linears)
        self.facts = facts
        self.embeddings: list[Embedding] = []
        self.tables: dict[str, Quantized] = {}
        self.weights: dict[str, Int8Weight] = {}
        self.divisors: dict[str, Matrix] = {}
        self.folds: list[tuple[Fold, Matrix]] = []
        if recipe.embeddings:
            self._take_tables()

    def _take_tables(self) -> None:
        products = [linear.node for linear in self.linears]
        for embedding in find_embeddings(self.model):
            name = str(embedding.table.name)
            if not embedding.may_be_int8(products):
                self.facts.leave_table(name, "it is also used in float")
                continue
            self.embeddings.append(embedding)
            if name not in self.tables:
                self.tables[name], error = embedding.quantized()
                self.facts.take_table(name, self.tables[name], error)

    def take(self, group: Sequence[Linear], seen: Activation | None) -> None:
        """Decide about the products that read one activation; `seen` is None without data."""
        x = group[0].x
        matrices = [linear.matrix() for linear in group]
        scale, alpha, where = np.ones(group[0].shape[0], np.float32), 0.0, "none"
        if seen is not None and not any(li.weight.name in self.tables for li in group):
            fold = find_fold(x, group, self.linears)
            best = choose_smoothing(seen, matrices, self.recipe.smoothing)
            if best.alpha and (fold is not None or best.gain >= self.recipe.min_gain):
                scale, alpha = best.scale, best.alpha
                where = self._place(str(x.name), fold, scale)
        compensation = self._compensation(seen, scale)
        for linear, matrix in zip(group, matrices, strict=True):
            new = self._rounded(linear, matrix * scale[:, None], compensation)
            self.weights[linear.name] = new
            error = None if seen is None else _error(seen, matrix, new.weight, scale)
            self.facts.take(linear, alpha, where, error)

    def _compensation(self, seen: Activation | None, scale: Matrix) -> Compensation | None:
        """What compensated rounding needs, if the recipe wants it; uses up the gram."""
        if seen is None or seen.gram is None or self.recipe.rounding == "nearest":
            return None
        gram, seen.gram = seen.gram, None
        gram /= scale
        gram /= scale[:, None]
        gram /= np.float32(seen.rows)
        return Compensation(gram, _noise(seen, scale))

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
        weight = round_nearest(matrix) if compensation is None else compensation.round(matrix)
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


def _noise(seen: Activation, scale: Matrix) -> float:
    """The variance that quantizing adds to an activation whose tokens have size 1."""
    variances = [
        np.square(np.ptp(np.append(x / scale, 0)) / 255 / token_size(x)).ravel() / 12
        for x in seen.sample
    ]
    return float(np.concatenate(variances).mean()) if variances else 0.0


def _error(seen: Activation, matrix: Matrix, weight: Quantized, scale: Matrix) -> float:
    """The mean squared error of the int8 output, relative to each token's float output."""
    wanted = np.concatenate(seen.sample) @ matrix
    return output_error(seen.sample, [weight.dequantized()], scale, [wanted])
