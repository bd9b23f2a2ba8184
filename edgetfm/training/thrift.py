"""Memory for time: the inner results of a layer are computed again when they are needed."""

from __future__ import annotations

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint


def checkpoint_layers(module: nn.Module) -> int:
    """Keep of each layer what went in and what came out; how many layers there are.

    The gradients are the same. Chen et al. 2016, https://arxiv.org/abs/1604.06174.
    """
    layers = [
        layer
        for name, part in module.named_modules()
        if isinstance(part, nn.ModuleList) and name.rpartition(".")[2] == "layers"
        for layer in part
    ]
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    return len(layers)
