"""What an encoder-decoder's steps hand on: keys and values of both texts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from edgetfm.layers.cross_attention import CrossAttention
from edgetfm.layers.grouped_query import Cache, Timeline
from edgetfm.signature import PRESENT


class Past:
    """What a decoder kept of the steps before, and what it keeps for the next.

    tensors: by the names of `decoder_inputs` less their prefix, None if nothing is past. hidden:
    the encoder's answer. cached: whether the tensors have the cross-attention's keys and values;
    a graph makes them always, and a pass chooses.
    """

    def __init__(
        self, tensors: Mapping[str, Tensor] | None, hidden: Tensor, cached: Tensor | None
    ) -> None:
        self.tensors, self.hidden = tensors, hidden
        exporting = torch.compiler.is_exporting()
        self.cached = cached is not None and not exporting and bool(cached)
        self.present: dict[str, Tensor] = {}

    @property
    def length(self) -> int:
        """The tokens of each row that are past."""
        return 0 if self.tensors is None else self.tensors["0.decoder.key"].shape[2]

    def timeline(self, x: Tensor) -> Timeline:
        """Where the tokens of the step stand; `x` is [batch, sequence, width]."""
        batch, sequence = x.shape[:2]
        return Timeline.after(self.length, batch, sequence, x.device)

    def own(self, layer: int, heads: int, head_size: int) -> Cache:
        """A layer's keys and values of the decoder's tokens."""
        if self.tensors is None:
            nothing = self.hidden.new_zeros(self.hidden.shape[0], heads, 0, head_size)
            return nothing, nothing
        return self.tensors[f"{layer}.decoder.key"], self.tensors[f"{layer}.decoder.value"]

    def other(self, layer: int, attention: CrossAttention) -> Cache:
        """A layer's keys and values of the encoder's tokens, made unless they are kept."""
        if not self.cached:
            made = attention.keys_values(self.hidden)
            self._keep(layer, "encoder", made)
            return made
        assert self.tensors is not None
        key, value = (self.tensors[f"{layer}.encoder.{part}"] for part in ("key", "value"))
        self._keep(layer, "encoder", (key[:, :, :0], value[:, :, :0]))  # they need no copy
        return key, value

    def keep_own(self, layer: int, cache: Cache) -> None:
        """Hand a layer's keys and values of the decoder's tokens to the next step."""
        self._keep(layer, "decoder", cache)

    def answer(self, logits: Tensor) -> dict[str, Tensor]:
        """The outputs by name, in their order."""
        layers = sorted({int(name.split(".")[0]) for name in self.present})
        return {"logits": logits} | {
            f"{PRESENT}{i}.{side}.{part}": self.present[f"{i}.{side}.{part}"]
            for i in layers
            for side in ("decoder", "encoder")
            for part in ("key", "value")
        }

    def _keep(self, layer: int, side: str, cache: Cache) -> None:
        for part, tensor in zip(("key", "value"), cache, strict=True):
            self.present[f"{layer}.{side}.{part}"] = tensor
