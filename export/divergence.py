"""Where an exported graph parts ways with its module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from edgetfm.runtime.divergence import Divergence, compute_values, first_past, float_values
from edgetfm.signature import Feeds, nested


def first_module_divergence(
    module: nn.Module, graph: Path, feeds: Feeds, *, limit: float
) -> Divergence | None:
    """The first leaf module whose output the graph computes differently, None if none does.

    Nodes are named after the module they come from, so the last float of `layers.0.norm/...` is
    what the module `layers.0.norm` returns. limit: a relative L2 error.
    """
    wanted = module_outputs(module, feeds)
    last = {node.partition("/")[0]: (name, node) for name, node in float_values(graph)}
    pairs = {path: last[path] for path in wanted if path in last}
    got = compute_values(graph, [name for name, _ in pairs.values()], feeds)
    steps = (
        (node, got[name], wanted[path])
        for path, (name, node) in pairs.items()
        if got[name].shape == wanted[path].shape
    )
    return first_past(steps, limit)


def module_outputs(module: nn.Module, feeds: Feeds) -> Feeds:
    """What every leaf module that returns one tensor returns, by its path, in order of calls."""
    seen: Feeds = {}

    def keep(path: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor):
                seen[path] = output.numpy().copy()

        return hook

    leaves = [(path, m) for path, m in module.named_modules() if not any(m.children())]
    handles = [leaf.register_forward_hook(keep(path)) for path, leaf in leaves]
    try:
        with torch.inference_mode():
            module(**nested({name: torch.from_numpy(array) for name, array in feeds.items()}))
    finally:
        for handle in handles:
            handle.remove()
    return seen
