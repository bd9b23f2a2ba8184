"""From a float32 graph to a variant of it, and the facts that say what was done to which node."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from edgetfm.errors import DataError, InputError
from edgetfm.graphs import infer_shapes
from edgetfm.progress import Progress, quiet
from edgetfm.quantize import float16, int8, static
from edgetfm.quantize.facts import Facts
from edgetfm.quantize.linear import by_activation, find_linears, name_of
from edgetfm.quantize.observe import observe
from edgetfm.quantize.plan import Memo, Plan
from edgetfm.quantize.recipes import Recipe
from edgetfm.signature import Feeds


def quantize_graph(
    model: ir.Model,
    recipe: Recipe,
    feeds: Sequence[Feeds],
    *,
    memo: Memo | None = None,
    progress: Progress = quiet,
) -> tuple[ir.Model, dict[str, Any]]:
    """A new graph made from the float32 `model` by `recipe`, and facts for the report.

    feeds: calibration batches; recipes that observe nothing do without. `model` is not changed.
    Weights are read, rounded and put on disk one at a time. memo: decisions made before on this
    model and these feeds, used and added to; the graph is the same without. Raises DataError on
    calibration data that is empty or makes NaN, InputError on a recipe that names nodes the graph
    does not have.
    """
    names = {name_of(node) for node in model.graph}
    if unknown := [name for name in recipe.keep_float if name not in names]:
        raise InputError(f"the recipe keeps nodes that are not in the graph: {', '.join(unknown)}")
    copy = infer_shapes(model.clone())
    if recipe.precision == "fp16":
        return float16.convert(copy)
    if recipe.needs_calibration and not feeds:
        raise DataError(f"the recipe '{recipe.name}' needs calibration data, none was given")
    return _int8(copy, recipe, feeds, memo or Memo(), progress)


def _int8(
    model: ir.Model, recipe: Recipe, feeds: Sequence[Feeds], memo: Memo, progress: Progress
) -> tuple[ir.Model, dict[str, Any]]:
    linears, left = find_linears(model, recipe.keep_float)
    facts = Facts(linears, left)
    plan = Plan(model, recipe, linears, facts)
    decide(plan, feeds, memo, progress)
    if recipe.is_static:
        model, more = static.run(model, plan, feeds, progress)
        return model, facts.to_json() | more
    int8.run(model, plan)
    return model, facts.to_json()


def decide(plan: Plan, feeds: Sequence[Feeds], memo: Memo, progress: Progress) -> None:
    """Decide about every product of the plan; what the memo does not know is observed."""
    readers = {str(x.name): group for x, group in by_activation(plan.linears)}
    keys = {name: plan.key(group) for name, group in readers.items()}
    unknown = {name: group for name, group in readers.items() if keys[name] not in memo.decisions}
    if not feeds:
        for name, group in unknown.items():
            memo.decisions[keys[name]] = plan.decide(group, None)
    elif unknown:
        observed = observe(
            plan.model,
            {name: group[0].shape[0] for name, group in unknown.items()},
            feeds,
            gram=plan.recipe.rounding == "compensated",
            shapes_of=plan.facts.wanted,
            progress=progress,
        )
        for seen, shapes in observed:
            memo.shapes |= shapes
            for done, name in enumerate(list(seen)):
                memo.decisions[keys[name]] = plan.decide(readers[name], seen.pop(name))
                progress("rounding weights", done + 1, done + 1 + len(seen))
    for name, group in readers.items():
        plan.accept(group, memo.decisions[keys[name]])
    plan.facts.measure(memo.shapes)
