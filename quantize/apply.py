"""From a float32 graph to a variant of it, and the facts that say what was done to which node."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Protocol

import onnx_ir as ir

from edgetfm.errors import DataError, InputError
from edgetfm.graphs import infer_shapes
from edgetfm.progress import Progress, quiet
from edgetfm.quantize import float16, int8, static, weight_only
from edgetfm.quantize.block_tables import BlockTables
from edgetfm.quantize.facts import Facts
from edgetfm.quantize.items import of_whole_texts
from edgetfm.quantize.linear import Linear, by_activation, find_linears, name_of
from edgetfm.quantize.observe import Activation, has_gram, observe
from edgetfm.quantize.plan import Key, Memo, Plan
from edgetfm.quantize.recipes import Recipe
from edgetfm.quantize.spool import spool_weights
from edgetfm.quantize.weight_only import BlockPlan
from edgetfm.signature import Feeds

FEW_BATCHES = 1
"""Batches that are seen where nothing is decided by them: they only tell how far outputs move."""


AT_ONCE = min(4, os.cpu_count() or 1)
"""Activations whose products are rounded at the same time, where little is held for each."""


def quantize_graph(
    model: ir.Model,
    recipe: Recipe,
    feeds: Sequence[Feeds],
    *,
    memo: Memo | None = None,
    progress: Progress = quiet,
) -> tuple[ir.Model, dict[str, Any]]:
    """A new graph made from the float32 `model` by `recipe`, and facts for the report.

    feeds: calibration batches; recipes that observe nothing do without. `model` is not changed,
    but its weights are moved out of memory; the new ones are rounded and put on disk one at a
    time. memo: decisions made before on this model and these feeds, used and added to; the graph
    is the same without. Raises DataError on calibration data that is empty or makes NaN,
    InputError on a recipe that names nodes the graph does not have.
    """
    _check_names(model, recipe)
    spool_weights(model)
    copy = infer_shapes(model.clone())
    if recipe.precision == "fp16":
        return float16.convert(copy)
    if recipe.needs_calibration and not feeds:
        raise DataError(f"the recipe '{recipe.name}' needs calibration data, none was given")
    seen = feeds if recipe.observes_all else spread(feeds, FEW_BATCHES)
    whole = [of_whole_texts(model, batch) for batch in seen]
    return _products(copy, recipe, whole, memo or Memo(), progress)


def spread(feeds: Sequence[Feeds], most: int) -> list[Feeds]:
    """At most so many batches, from all over them."""
    return list(feeds[:: max(1, len(feeds) // most)][:most])


def _check_names(model: ir.Model, recipe: Recipe) -> None:
    names = {name_of(node) for node in model.graph}
    problems = [
        f"the recipe {does} nodes that are not in the graph: {', '.join(unknown)}"
        for does, wanted in (
            ("keeps", recipe.keep_float),
            ("puts in blocks", recipe.by_block),
            ("makes pair-safe", recipe.pair_safe),
        )
        if (unknown := [name for name in wanted if name not in names])
    ]
    if both := [name for name in recipe.by_block if name in recipe.keep_float]:
        problems.append(f"the recipe keeps nodes and puts them in blocks too: {', '.join(both)}")
    if problems:
        raise InputError("\n".join(problems))


def _products(
    model: ir.Model, recipe: Recipe, feeds: Sequence[Feeds], memo: Memo, progress: Progress
) -> tuple[ir.Model, dict[str, Any]]:
    linears, left = find_linears(model, recipe.keep_float)
    facts = Facts(linears, left)
    in_blocks = [li for li in linears if recipe.is_weight_only or li.name in recipe.by_block]
    apart = {li.name for li in in_blocks}
    others = [li for li in linears if li.name not in apart]
    tables = BlockTables(model, recipe, in_blocks)
    plan = Plan(model, recipe, others, facts, in_blocks=in_blocks, apart=tables.forms)
    blocks = BlockPlan(model, recipe, in_blocks, facts, plan.unsigned, tables)
    for part in (plan, blocks):
        decide(part, feeds, memo, progress)
    more: dict[str, Any] = {}
    if recipe.is_static:
        model, more = static.run(model, plan, feeds, progress)
    else:
        int8.run(model, plan)
    weight_only.run(model, blocks)
    return model, facts.to_json() | more


class _Plan(Protocol):
    """Decides about the products that read one activation, and takes a decision over.

    apart: whether what it decides about one of them does not depend on the others.
    """

    model: ir.Model
    recipe: Recipe
    linears: list[Linear]
    facts: Facts
    apart: bool

    def key(self, group: Sequence[Linear]) -> Key: ...

    def decide(self, group: Sequence[Linear], seen: Activation | None) -> Any: ...

    def accept(self, group: Sequence[Linear], decision: Any) -> None: ...


def decide(plan: _Plan, feeds: Sequence[Feeds], memo: Memo, progress: Progress) -> None:
    """Decide about every product of the plan; what the memo does not know is observed."""
    foresee([plan], feeds, memo, progress)
    for _, group in by_activation(plan.linears):
        plan.accept(group, memo.decisions[plan.key(group)])
        if feeds and plan.recipe.rounding == "compensated" and not has_gram(group[0].shape[0]):
            plan.facts.round_to_nearest(group)
    plan.facts.measure(memo.shapes)


def foresee(
    plans: Sequence[_Plan], feeds: Sequence[Feeds], memo: Memo, progress: Progress = quiet
) -> None:
    """Put what several plans of one model will ask for into the memo, observing it once."""
    unknown: dict[str, list[tuple[_Plan, list[Linear]]]] = {}
    for plan in plans:
        for x, group in by_activation(plan.linears):
            if not _recalled(plan, group, memo):
                unknown.setdefault(str(x.name), []).append((plan, group))
    if not feeds:
        for asked in unknown.values():
            _learn(asked, None, memo)
    elif unknown:
        observed = observe(
            plans[0].model,
            {name: asked[0][1][0].shape[0] for name, asked in unknown.items()},
            feeds,
            gram=any(plan.recipe.rounding == "compensated" for plan in plans),
            shapes_of=plans[0].facts.wanted,
            progress=progress,
        )
        for seen, shapes in observed:
            memo.shapes |= shapes
            for done, count in _learn_all(unknown, seen, memo):
                progress("rounding weights", done, count)


def _learn_all(
    unknown: Mapping[str, Sequence[tuple[_Plan, list[Linear]]]],
    seen: dict[str, Activation],
    memo: Memo,
) -> Iterator[tuple[int, int]]:
    """Learn from each activation, and drop it; how many are done, and how many there are.

    Without grams, whose factors are large, a few at once: arithmetic on arrays holds no lock.
    """
    names = list(seen)
    if any(activation.gram is not None for activation in seen.values()):
        for done, name in enumerate(names):
            _learn(unknown[name], seen.pop(name), memo)
            yield done + 1, len(names)
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        learned = pool.map(lambda name: _learn(unknown[name], seen.pop(name), memo), names)
        for done, _ in enumerate(learned):
            yield done + 1, len(names)


def _recalled(plan: _Plan, group: Sequence[Linear], memo: Memo) -> bool:
    """Whether the memo knows the group, or each of its products where that is the same."""
    key = plan.key(group)
    parts = [plan.key([linear]) for linear in group] if plan.apart else [key]
    if key not in memo.decisions and all(part in memo.decisions for part in parts):
        memo.decisions[key] = tuple(memo.decisions[part][0] for part in parts)
    return key in memo.decisions


def _learn(
    asked: Sequence[tuple[_Plan, Sequence[Linear]]], seen: Activation | None, memo: Memo
) -> None:
    """What each plan decides about its group; deciding uses the gram up, so all but one copy it."""
    for number, (plan, group) in enumerate(asked):
        own = seen
        if seen is not None and seen.gram is not None and number + 1 < len(asked):
            own = replace(seen, gram=seen.gram.copy())
        decision = plan.decide(group, own)
        memo.decisions[plan.key(group)] = decision
        if plan.apart:
            memo.decisions |= {
                plan.key([linear]): (part,) for linear, part in zip(group, decision, strict=True)
            }
