"""The search behind `--quantize` for decoders: the fewest bytes a token that the budget allows.

A token reads every weight once, so bytes are time. Four bits in the largest blocks come first. If
those are outside the budget, what each product loses in 4 bits is measured, and the products that
lose most for their bytes get 8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgetfm.graphs import read_graph
from edgetfm.proof import answers_of
from edgetfm.quantize import Recipe
from edgetfm.quantize.block_board import BlockBoard
from edgetfm.quantize.block_forms import block_sizes, weights_in_blocks
from edgetfm.quantize.mix import Mix, Product, cheapest_mix
from edgetfm.quantize.recipes import DECODER_BLOCKS, FOR_DECODERS
from edgetfm.quantize.targets import liked
from edgetfm.quantize.weight_only import BlockWeight
from edgetfm.search.attempts import attempt
from edgetfm.search.candidates import Candidate, Workshop, recipe_called
from edgetfm.search.divergence import Divergence
from edgetfm.search.journal import Journal
from edgetfm.signature import Feeds

AIM = 0.9
"""The share of the budget that a mix is to use, by what calibration data foretells of it: on
SmolLM2-135M the texts that judge were at 1.00 to 1.08 of what was foretold."""

FINER = 0.8
"""By how much less a mix may lose where the one before was outside."""

MIXES = 4
"""Mixes that are made at most; each is judged, which takes as long as plain int4."""

TUNING_TOKENS = 512
"""Tokens of calibration data on which each product's loss is measured."""

TUNING_ELEMENTS = 1 << 25
"""Logits that are kept for it, if that allows fewer tokens: vocabularies are large."""


def search_decoder(shop: Workshop, journal: Journal) -> None:
    """Make candidates until one is inside the budget; those made stand in `shop.candidates`."""
    likes = liked(shop.targets)
    if "int4" in likes and _four_bits(shop, journal):
        return
    for name in FOR_DECODERS:
        if name != "int4" and name in likes:
            made = attempt(
                shop, name, recipe_called(name, shop.draft), "a token reads every weight"
            )
            if made is not None and made.inside:
                return


def _four_bits(shop: Workshop, journal: Journal) -> bool:
    """Whether a form of mostly 4 bits is inside the budget."""
    path = shop.draft.path("fp32")
    assert isinstance(path, Path)
    model, plain = read_graph(path), recipe_called("int4", shop.draft)
    if plain.rounding == "nearest":  # it keeps the blocks that the weights came in
        made = attempt(shop, "int4", plain, "nothing is rounded again")
        return made is not None and made.inside
    sizes = block_sizes(model, plain, [b for b in DECODER_BLOCKS if b >= plain.block_size])
    recipes = [replace(plain, block_size=size) for size in sizes]
    four = _weights(shop, model, recipes)
    made = None
    for recipe in recipes:
        last = recipe is recipes[-1]
        name = "int4" if last else f"int4, blocks of {recipe.block_size}"
        made = attempt(shop, name, recipe, "a token reads every weight")
        if made is not None and made.inside:
            return True
    if made is None or shop.out_of_time():
        return False
    every = tuple(four[0])
    eight = _weights(shop, model, [replace(recipe, by_block=every) for recipe in recipes])
    losses = _losses(shop, model, recipes[-1], journal)
    options = {
        recipe: [_product(name, losses, four[-1], small, large) for name in every]
        for recipe, small, large in zip(recipes, four, eight, strict=True)
    }
    return _mixed(shop, made, options, losses)


Weights = Mapping[str, BlockWeight]


def _weights(shop: Workshop, model: ir.Model, recipes: Sequence[Recipe]) -> list[Weights]:
    """What the products are by each recipe; all that is not known yet is observed at once."""
    evidence, progress = shop.draft.evidence, shop.draft.progress
    return [
        *weights_in_blocks(model, recipes, evidence.calibration, memo=shop.memo, progress=progress)
    ]


@dataclass(frozen=True)
class Losses:
    """What each product loses in 4 bits, all others in 8, in nats; base: all of them in 8."""

    of: Mapping[str, float]
    base: float

    @property
    def whole(self) -> float:
        """What all of them together lose in 4 bits."""
        return self.base + sum(max(0.0, loss) for loss in self.of.values())


def _losses(shop: Workshop, model: ir.Model, recipe: Recipe, journal: Journal) -> Losses:
    """Measured on one board, or known from a search that was interrupted."""
    draft = shop.draft
    board = BlockBoard(
        model, recipe, draft.evidence.calibration, memo=shop.memo, progress=draft.progress
    )
    path = draft.path("fp32")
    assert isinstance(path, Path)
    items = tuning_items(draft.evidence.calibration, _vocabulary(shop))
    far = Divergence(draft.subject.task.outputs[0].name, answers_of(path, items), items)
    with board:

        def loss(four: Sequence[str]) -> float:
            question = f"nats lost by {', '.join(four)} in blocks of {recipe.block_size}"
            known = journal.get(question)
            if isinstance(known, float):
                return known
            eight = frozenset(board.names) - frozenset(four)
            found = far.of(board.run(feeds, eight) for feeds in items)
            journal.put(question, found)
            return found

        try:
            return _measured(board.names, loss, shop)
        finally:
            journal.save()


def _measured(
    names: Sequence[str], loss: Callable[[Sequence[str]], float], shop: Workshop
) -> Losses:
    """Out of time, what is not measured counts as the mean of what is."""
    base = loss(())
    found: dict[str, float] = {}
    for done, name in enumerate(names):
        if shop.out_of_time():
            shop.draft.notes.append(
                f"out of time: the loss of {len(names) - done} of {len(names)} products was not "
                "measured (--time allows more)"
            )
            break
        found[name] = loss((name,)) - base
        shop.draft.progress("measuring each product's loss", done + 1, len(names))
    mean = float(np.mean(list(found.values()))) if found else 0.0
    return Losses({name: found.get(name, mean) for name in names}, base)


def _vocabulary(shop: Workshop) -> int:
    output = shop.draft.subject.signature.outputs[0]
    return int(output.shape[-1]) if isinstance(output.shape[-1], int) else 1


def tuning_items(calibration: Sequence[Feeds], vocabulary: int) -> list[Feeds]:
    """Some of the texts, one each and from all over: TUNING_TOKENS, or what can be kept of them."""
    most = min(TUNING_TOKENS, TUNING_ELEMENTS // max(1, vocabulary))
    rows = [
        {name: array[i : i + 1] for name, array in batch.items()}
        for batch in calibration
        for i in range(len(batch["input_ids"]))
    ]
    count = max(1, most // max(1, rows[0]["input_ids"].shape[1]))
    return rows[:: max(1, len(rows) // count)][:count]


def _mixed(
    shop: Workshop,
    plain: Candidate,
    options: Mapping[Recipe, Sequence[Product]],
    losses: Losses,
) -> bool:
    """Whether a mix is inside: of fewer and fewer losses, each in the blocks that take least."""
    lost = losses.whole
    use = plain.use
    log: list[dict[str, float | int | str]] = []
    for _ in range(MIXES):
        lost *= min(FINER, AIM / use) if np.isfinite(use) and use > 0 else FINER
        found = {r: cheapest_mix(p, losses.base, lost) for r, p in options.items()}
        recipe, mix = min(found.items(), key=lambda pair: pair[1].bytes)
        if len(mix.eight) == len(losses.of):
            return False
        made = _of_mix(shop, recipe, mix)
        if made is None:
            return False
        use = made.use
        log.append(
            {
                "step": f"in 8 bits, the rest in blocks of {recipe.block_size}",
                "nodes_left_out": len(mix.eight),
                "use": float(f"{use:.3g}"),
            }
        )
        made.facts["search"] = list(log)
        made.facts["sensitivity"] = {n: float(f"{loss:.3g}") for n, loss in losses.of.items()}
        if made.inside:
            return True
        lost = mix.loss
    return False


def _of_mix(shop: Workshop, recipe: Recipe, mix: Mix) -> Candidate | None:
    count = len(mix.eight)
    products = "1 product" if count == 1 else f"{count} products"
    name = f"int4 in blocks of {recipe.block_size}, {products} in 8 bits"
    note = f"what loses most for its bytes is in 8 bits: {mix.loss:.3f} nats are foretold"
    return attempt(shop, name, replace(recipe, by_block=mix.eight), note, room=1.0)


def _product(
    name: str, losses: Losses, measured: Weights, small: Weights, large: Weights
) -> Product:
    """A product in its two forms. Its loss grows with the error of its own output.

    measured: the weights whose losses were measured.
    """
    mine, theirs = small[name].error, measured[name].error
    grown = mine / theirs if mine and theirs else 1.0
    bytes_of = (weights[name].blocks.bytes for weights in (small, large))
    return Product(name, losses.of[name] * grown, *bytes_of)
