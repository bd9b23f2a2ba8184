"""A variant's graphs made one by one, each by the same recipe on what it takes itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from edgetfm.graphs import read_graph, save_graph
from edgetfm.merged import merge, unmerge
from edgetfm.progress import Progress
from edgetfm.quantize import Recipe, quantize_graph
from edgetfm.quantize.items import Whole
from edgetfm.quantize.linear import name_of
from edgetfm.quantize.plan import Memo
from edgetfm.quantize.saturation import make_safe
from edgetfm.runtime.encoder_decoder import EncoderDecoder, decoder_items, open_graph
from edgetfm.runtime.memory import return_freed
from edgetfm.runtime.session import without_spinning
from edgetfm.signature import Feeds
from edgetfm.stages import DECODER, ENCODER, MODEL, Graph, Pair, graph_of, parts

MOST_HIDDEN = 256 << 20
"""Bytes of encoded sources that a decoder is calibrated on; beyond it, items from all over them."""


def feeds_of_parts(graph: Graph, feeds: Sequence[Feeds]) -> dict[str, list[Feeds]]:
    """What each component takes of whole feeds; the decoder what the encoder makes of them."""
    if not isinstance(graph, Pair):
        return {MODEL: list(feeds)}
    model = open_graph(graph, settings=without_spinning())
    assert isinstance(model, EncoderDecoder)
    names = [t.name for t in model.encoder.signature.inputs]
    sources = [type(batch)({n: batch[n] for n in names}) for batch in feeds]
    first = next(decoder_items(model, feeds[:1]), {})
    rows = sum(len(batch[names[0]]) for batch in feeds)
    size = max((a.nbytes for a in first.values()), default=1) * rows
    every = max(1, round(size / MOST_HIDDEN))
    targets = [Whole(one) for one in decoder_items(model, feeds[::every])]
    del model
    return_freed()
    return {ENCODER: sources, DECODER: list[Feeds](targets)}


def case_of_parts(graph: Graph, feeds: Feeds) -> dict[str, Feeds]:
    """What each component takes of one case, the decoder as its first step."""
    if not isinstance(graph, Pair):
        return {MODEL: feeds}
    model = open_graph(graph, settings=without_spinning())
    assert isinstance(model, EncoderDecoder)
    names = [t.name for t in model.encoder.signature.inputs]
    return {ENCODER: {n: feeds[n] for n in names}, DECODER: model.first_step(feeds)}


@dataclass
class Maker:
    """Makes variants of one float graph, or pair of them; what it decides it remembers."""

    graph: Graph
    feeds: dict[str, list[Feeds]]
    progress: Progress
    memos: dict[str, Memo] = field(default_factory=dict)

    def make(self, recipe: Recipe, folder: Path, *, safe: bool) -> Made:
        """The graphs by this recipe, written to `folder`. safe: whether no sum may saturate."""
        sources = {name: unmerge(read_graph(path)) for name, path in parts(self.graph).items()}
        made: dict[str, Path] = {}
        found: dict[str, dict[str, Any]] = {}
        pair_safe: list[str] = []
        changed = False
        for name, (source, merged) in sources.items():
            own = recipe if name == MODEL else _of_part(recipe, name, sources)
            memo = self.memos.setdefault(name, Memo())
            options: dict[str, Any] = {"memo": memo, "progress": self.progress}
            if safe:
                graph, found[name], own = make_safe(source, own, self.feeds[name], **options)
            else:
                graph, found[name] = quantize_graph(source, own, self.feeds[name], **options)
            pair_safe += own.pair_safe
            changed |= _looks_of(graph) != _looks_of(source)
            made[name] = folder / f"{name}.onnx"
            save_graph(merge(graph)[0] if merged else graph, made[name])
        return Made(
            graph_of(made),
            found[MODEL] if MODEL in found else joined(found),
            replace(recipe, pair_safe=tuple(pair_safe)),
            changed,
        )


def _of_part(recipe: Recipe, name: str, sources: Mapping[str, tuple[ir.Model, bool]]) -> Recipe:
    """The recipe with those of the nodes it names that are not another part's."""
    others = {
        name_of(node)
        for other, (model, _) in sources.items()
        if other != name
        for node in model.graph
    }
    own = {name_of(node) for node in sources[name][0].graph}

    def kept(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(n for n in names if n in own or n not in others)

    return replace(
        recipe,
        keep_float=kept(recipe.keep_float),
        by_block=kept(recipe.by_block),
        pair_safe=kept(recipe.pair_safe),
    )


def _looks_of(graph: ir.Model) -> tuple[Counter[str], Counter[str]]:
    """How many nodes of each kind, and weights of each type, a graph has."""
    weights = (value.const_value for value in graph.graph.initializers.values())
    kinds = Counter(f"{node.domain}:{node.op_type}" for node in graph.graph)
    return kinds, Counter(w.dtype.name for w in weights if w is not None)


def joined(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The facts of several graphs as those of one: counts are added, lists follow each other.

    A share stands apart for each, for it is of that graph's work.
    """
    facts: dict[str, Any] = {}
    for name, about in found.items():
        for key, value in about.items():
            if isinstance(value, float):
                facts.setdefault(f"{key} of", {})[name] = value
            elif isinstance(value, Mapping):
                facts[key] = joined({"": facts.get(key, {}), name: value})
            elif isinstance(value, (int, list)) and not isinstance(value, bool):
                facts[key] = facts[key] + value if key in facts else value
            else:
                facts[key] = value
    return facts


@dataclass(frozen=True)
class Made:
    """Graphs on disk, what was done to which node, and the recipe that makes them again."""

    graph: Graph
    facts: dict[str, Any]
    recipe: Recipe
    changed: bool
