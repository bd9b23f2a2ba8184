"""A graph with every product in both forms, and an input that says which is used where.

The effect of a node on the outputs is measured by running this one graph again with another
choice: no graph is written and no session made for each of the hundreds of questions of a search.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from math import prod
from pathlib import Path
from typing import Self

import numpy as np
import onnx_ir as ir

from edgetfm.graphs import infer_shapes, save_graph
from edgetfm.progress import Progress, quiet
from edgetfm.quantize import embeddings, int8
from edgetfm.quantize.apply import decide
from edgetfm.quantize.edit import Editor
from edgetfm.quantize.facts import Facts
from edgetfm.quantize.linear import Linear, by_activation, find_linears
from edgetfm.quantize.plan import Memo, Plan
from edgetfm.quantize.recipes import Recipe
from edgetfm.runtime.session import Session, make_session, without_spinning
from edgetfm.signature import Feeds

CHOICE = "edgetfm_int8_nodes"
"""The added input: bool [products], true where the int8 form is used."""


class Board:
    """A graph with an input that says which of the products `names` are in the lower precision.

    It is a file and a session as long as the `with` block lasts.
    """

    def __init__(self, model: ir.Model, names: Sequence[str], choice: str) -> None:
        self.names = list(names)
        self._model, self._choice = model, choice
        self._session: Session | None = None

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="edgetfm-")
        path = Path(self._folder.name) / "board.onnx"
        save_graph(self._model, path)
        self._session = make_session(path, settings=without_spinning())
        return self

    def __exit__(self, *_: object) -> None:
        self._session = None
        self._folder.cleanup()

    def run(self, feeds: Feeds, kept: Collection[str]) -> Feeds:
        """The outputs with the products `kept` in the higher precision."""
        assert self._session is not None
        choice = np.array([name not in kept for name in self.names])
        return self._session.run({**feeds, self._choice: choice})


class Switchboard(Board):
    """Answers of `model` with any of its products in int8 and the rest in float.

    names: the products that can be switched, in graph order. costs: their shares of the
    multiply-accumulates of all of them.
    """

    def __init__(
        self,
        model: ir.Model,
        recipe: Recipe,
        feeds: Sequence[Feeds],
        *,
        memo: Memo | None = None,
        progress: Progress = quiet,
    ) -> None:
        """`feeds` and `memo` as in `quantize_graph`: what it decided is not decided again."""
        copy = infer_shapes(model.clone())
        linears, left = find_linears(copy, recipe.keep_float)
        plan = Plan(copy, recipe, linears, Facts(linears, left), folding=False)
        memo = Memo() if memo is None else memo
        decide(plan, feeds, memo, progress)
        super().__init__(copy, [linear.name for linear in linears], CHOICE)
        self.costs = dict(zip(self.names, _shares(linears, memo), strict=True))
        add_switches(copy, plan)


def add_switches(model: ir.Model, plan: Plan) -> None:
    """Put the int8 form of every product beside its float form, and a Where behind them."""
    embeddings.run(model, plan.embeddings, plan.tables)
    editor = Editor(model)
    choice = ir.Value(
        name=CHOICE, type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([len(plan.linears)])
    )
    model.graph.inputs.append(choice)
    place = {linear.name: number for number, linear in enumerate(plan.linears)}
    for x, group in by_activation(plan.linears):
        steps = int8.quantized(editor, x, group[0].node, plan)
        for linear in group:
            number = editor.constant(f"{linear.name}_number", np.array(place[linear.name]))
            chosen = editor.before(linear.node, "Gather", [choice, number], f"{linear.name}_on")[0]
            y = int8.product(editor, linear, plan.weights[linear.name], steps)
            _switch(editor, linear.add or linear.node, chosen, y)
    editor.finish()


def _switch(editor: Editor, last: ir.Node, chosen: ir.Value, y: ir.Value) -> None:
    """Where `chosen`, let `y` stand for the output of `last`."""
    real = last.outputs[0]
    node = ir.node("Where", [chosen, y, real], name=editor.unique(f"{real.name}_switch"))
    value = node.outputs[0]
    value.type, value.shape = real.type, real.shape
    editor.graph.insert_after(last, node)
    ir.convenience.replace_all_uses_with(real, value, replace_graph_outputs=True)
    node.replace_input_with(2, real)
    name = real.name
    real.name = editor.unique(f"{name}_float")
    value.name = name


def _shares(linears: Sequence[Linear], memo: Memo) -> list[float]:
    """Each product's share of the work; from its weight alone where no shape is known."""
    work = [prod(memo.shapes.get(str(li.x.name), (li.shape[0],))) * li.shape[1] for li in linears]
    total = sum(work)
    return [w / total for w in work] if total else []
