"""What the families share that write about something else than a text: a picture, a sound.

Nothing of what their encoders read is padding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from edgetfm.layers.feed_forward import FeedForward
from edgetfm.models._encoder_decoder import (
    DECODER,
    ENCODER,
    Head,
    Words,
    decoder_outputs,
    step_inputs,
)
from edgetfm.models._family import Stage
from edgetfm.models._layers import decoder_layer
from edgetfm.models._past import Past
from edgetfm.signature import TARGET, TARGET_MASK, TensorSpec

Specs = Callable[[Any, str], tuple[TensorSpec, ...]]


class Decoder(nn.Module):
    """Embedded tokens and a past to hidden states; where a token stands is learned.

    c: has the sizes of a decoder, its activation, eps and dropout, and its context.
    """

    def __init__(self, c: Any) -> None:
        super().__init__()
        self.positions = nn.Embedding(c.context, c.width)
        self.layers = nn.ModuleList(
            decoder_layer(c, FeedForward(c.width, c.decoder_inner, c.activation))
            for _ in range(c.decoder_layers)
        )
        self.norm = nn.LayerNorm(c.width, eps=c.eps)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor, past: Past) -> Tensor:
        """[batch, sequence, width] in and out."""
        timeline = past.timeline(x)
        places = torch.arange(x.shape[1], device=x.device) + past.length
        x = self.dropout(x + self.positions(places))
        for number, layer in enumerate(self.layers):
            x = layer(x, number, past, timeline, None)
        out: Tensor = self.norm(x)
        return out


class DecoderStage(nn.Module):
    """The graph of the decoder: a step of tokens, with what the steps before left."""

    def __init__(self, words: nn.Module, decoder: nn.Module, head: Head) -> None:
        super().__init__()
        self.words, self.decoder, self.head = words, decoder, head

    def forward(
        self,
        input_ids: Tensor,
        encoder_hidden_states: Tensor,
        past_key_values: dict[str, Tensor] | None = None,
        use_cache_branch: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The logits of the step's tokens and what the next step needs."""
        past = Past(past_key_values, encoder_hidden_states, use_cache_branch)
        x = self.decoder(self.words(input_ids), past)
        return past.answer(self.head(x, self.words.weight))


class SenseToText(nn.Module):
    """The whole, as it is trained and compared; a family's `forward` names what it reads."""

    def __init__(self, c: Any, encoder: nn.Module, *, scale: float = 1.0) -> None:
        super().__init__()
        self.words = Words(c.vocabulary, c.width, scale=scale)
        self.encoder, self.decoder = encoder, Decoder(c)
        self.head = Head(c.width, c.vocabulary, tied=c.tied)

    @property
    def decoder_stage(self) -> DecoderStage:
        """What is exported as the second graph; it shares the weights."""
        return DecoderStage(self.words, self.decoder, self.head)

    def told(self, read: Tensor, decoder_input_ids: Tensor) -> dict[str, Tensor]:
        """The logits of a text about what was read, [batch, tokens, width].

        No token sees those behind it, and so a text that is padded on the right needs no mask.
        """
        x = self.decoder(self.words(decoder_input_ids), Past(None, read, None))
        return {"logits": self.head(x, self.words.weight)}


def whole_inputs(encoder_inputs: Specs) -> Specs:
    """What the encoder reads and the text about it, as a model is trained on them."""
    text = ("batch", "decoder_sequence")
    texts = (TensorSpec(TARGET, "int64", text), TensorSpec(TARGET_MASK, "int64", text))
    return lambda c, task: (*encoder_inputs(c, task), *texts)


def _read(c: Any, task: str) -> tuple[TensorSpec, ...]:
    return (TensorSpec("last_hidden_state", "float32", ("batch", c.encoder_context, c.width)),)


def stages(inputs: Specs) -> tuple[Stage, ...]:
    """Both graphs; inputs: of the encoder's, which is the module's `encoder_stage`."""
    return (
        Stage(ENCODER, lambda module: module.encoder_stage, inputs, _read),
        Stage(DECODER, lambda module: module.decoder_stage, step_inputs, decoder_outputs),
    )
