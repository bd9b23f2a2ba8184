"""What every encoder-decoder shares: its two graphs and their tensors."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from edgetfm.errors import SourceError
from edgetfm.layers.cross_attention import cross_bias
from edgetfm.layers.linear import Linear
from edgetfm.models._config import InContext
from edgetfm.models._family import Stage
from edgetfm.models._past import Past
from edgetfm.signature import PAST, PRESENT, TensorSpec

ENCODER, DECODER = "encoder_model", "decoder_model_merged"
"""What the graphs are called, as Optimum calls them."""
BRANCH = "use_cache_branch"
"""The decoder's input that says whether its past is given."""


class Sizes(Protocol):
    """The sizes of an encoder-decoder that its inputs and outputs show."""

    @property
    def vocabulary(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def decoder_layers(self) -> int: ...
    @property
    def decoder_heads(self) -> int: ...
    @property
    def head_size(self) -> int: ...


class Halves(InContext):
    """A config whose halves are of one width, and whose context is that of the texts it writes."""

    width: int
    decoder_heads: int

    @property
    def head_size(self) -> int:
        """The units of a head of the decoder."""
        return self.width // self.decoder_heads


# --- tensors ------------------------------------------------------------------------------------


def text_inputs(c: Sizes, task: str) -> tuple[TensorSpec, ...]:
    """Both texts, as a model is trained on them; rows are padded on the right."""
    return (
        *encoder_inputs(c, task),
        TensorSpec("decoder_input_ids", "int64", ("batch", "decoder_sequence")),
        TensorSpec("decoder_attention_mask", "int64", ("batch", "decoder_sequence")),
    )


def whole_outputs(c: Sizes, task: str) -> tuple[TensorSpec, ...]:
    """Logits of the token behind each of the decoder's."""
    return (TensorSpec("logits", "float32", ("batch", "decoder_sequence", c.vocabulary)),)


def encoder_inputs(c: Sizes, task: str) -> tuple[TensorSpec, ...]:
    """A text, padded on the right."""
    return (
        TensorSpec("input_ids", "int64", ("batch", "encoder_sequence")),
        TensorSpec("attention_mask", "int64", ("batch", "encoder_sequence")),
    )


def encoder_outputs(c: Sizes, task: str) -> tuple[TensorSpec, ...]:
    """What the decoder attends to."""
    return (TensorSpec("last_hidden_state", "float32", ("batch", "encoder_sequence", c.width)),)


def decoder_inputs(c: Sizes, task: str) -> tuple[TensorSpec, ...]:
    """The tokens of a step, the encoder's answer, and what was kept of the past."""
    mask = TensorSpec("encoder_attention_mask", "int64", ("batch", "encoder_sequence"))
    return (mask, *step_inputs(c, task))


def step_inputs(c: Sizes, task: str) -> tuple[TensorSpec, ...]:
    """`decoder_inputs` of a decoder whose encoder has no padding."""
    return (
        TensorSpec("input_ids", "int64", ("batch", "decoder_sequence")),
        TensorSpec("encoder_hidden_states", "float32", ("batch", "encoder_sequence", c.width)),
        *_caches(c, PAST, "past_decoder_sequence", "past_encoder_sequence"),
        TensorSpec(BRANCH, "bool", (1,)),
    )


def decoder_outputs(c: Sizes, task: str) -> tuple[TensorSpec, ...]:
    """Logits of the step's tokens, and the past of the next step."""
    return (
        TensorSpec("logits", "float32", ("batch", "decoder_sequence", c.vocabulary)),
        *_caches(c, PRESENT, "present_decoder_sequence", "encoder_sequence"),
    )


def _caches(c: Sizes, prefix: str, own: str, other: str) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            f"{prefix}{i}.{side}.{part}", "float32", ("batch", c.decoder_heads, length, c.head_size)
        )
        for i in range(c.decoder_layers)
        for side, length in (("decoder", own), ("encoder", other))
        for part in ("key", "value")
    )


TEXT_STAGES = (
    Stage(ENCODER, lambda module: module.encoder_stage, encoder_inputs, encoder_outputs),
    Stage(DECODER, lambda module: module.decoder_stage, decoder_inputs, decoder_outputs),
)
"""The graphs of a model that reads text."""


def cache_of(c: Any) -> dict[str, Any]:
    """What a manifest says of an encoder-decoder's sizes."""
    return {
        "context": c.context,
        "encoder_context": c.encoder_context,
        "vocabulary": c.vocabulary,
        "width": c.width,
        "layers": c.decoder_layers,
        "heads": c.decoder_heads,
        "head_size": c.head_size,
    }


def check_head_size(c: Any) -> None:
    """Raise a SourceError for heads that no runtime's attention takes."""
    if c.head_size % 8:
        raise SourceError(
            f"a head of the decoder has {c.head_size} units; onnxruntime takes multiples of 8"
        )


# --- modules ------------------------------------------------------------------------------------


class Words(nn.Embedding):
    """The table of words; what is looked up is multiplied by `scale`."""

    def __init__(self, vocabulary: int, width: int, *, scale: float = 1.0) -> None:
        super().__init__(vocabulary, width)
        self.scale = scale
        nn.init.normal_(self.weight, std=width**-0.5 if scale != 1.0 else 0.02)

    def forward(self, input: Tensor) -> Tensor:
        """int64 [...] to [..., width]."""
        x = super().forward(input)
        return x * self.scale if self.scale != 1.0 else x


class Head(nn.Module):
    """Hidden states to logits, by the table of the embeddings if tied.

    scale: what the hidden states are multiplied by before.
    """

    def __init__(
        self, width: int, vocabulary: int, *, tied: bool, scale: float = 1.0, bias: bool = False
    ) -> None:
        super().__init__()
        self.scale = scale
        self.tied = tied
        if not tied:
            self.weight = Linear(width, vocabulary, bias=False).weight
        self.bias = nn.Parameter(torch.zeros(1, vocabulary)) if bias else None

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        """[..., width] to [..., vocabulary]; `words` is the table, [vocabulary, width]."""
        x = x * self.scale if self.scale != 1.0 else x
        logits = torch.matmul(x, words.t() if self.tied else self.weight)
        return logits if self.bias is None else logits + self.bias


class EncoderStage(nn.Module):
    """The graph of an encoder of text: `encoder_inputs` to `encoder_outputs`."""

    def __init__(self, words: nn.Module, encoder: nn.Module) -> None:
        super().__init__()
        self.words, self.encoder = words, encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """A vector for each token."""
        return {"last_hidden_state": self.encoder(self.words(input_ids), attention_mask)}


class DecoderStage(nn.Module):
    """The graph of a decoder: `decoder_inputs` to `decoder_outputs`.

    Nothing is past in a first step: the past has length 0, `use_cache_branch` is false, and the
    keys and values of the cross-attention are made of the encoder's answer. In later steps they
    are the past's, and what is handed on of them is empty. A graph that is traced makes them
    always: a pass puts the choice in.
    """

    def __init__(self, words: nn.Module, decoder: nn.Module, head: Head) -> None:
        super().__init__()
        self.words, self.decoder, self.head = words, decoder, head

    def forward(
        self,
        encoder_attention_mask: Tensor,
        input_ids: Tensor,
        encoder_hidden_states: Tensor,
        past_key_values: dict[str, Tensor] | None = None,
        use_cache_branch: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The logits of the step's tokens and what the next step needs."""
        past = Past(past_key_values, encoder_hidden_states, use_cache_branch)
        masked = cross_bias(encoder_attention_mask, input_ids.shape[1])
        x = self.decoder(self.words(input_ids), past, masked)
        return past.answer(self.head(x, self.words.weight))


class TextToText(nn.Module):
    """The whole: two texts to the logits of the second, as it is trained and compared."""

    def __init__(
        self, words: nn.Module, encoder: nn.Module, decoder: nn.Module, head: Head
    ) -> None:
        super().__init__()
        self.words, self.encoder, self.decoder, self.head = words, encoder, decoder, head

    @property
    def encoder_stage(self) -> EncoderStage:
        """What is exported as the first graph; it shares the weights."""
        return EncoderStage(self.words, self.encoder)

    @property
    def decoder_stage(self) -> DecoderStage:
        """What is exported as the second graph; it shares the weights."""
        return DecoderStage(self.words, self.decoder, self.head)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        decoder_input_ids: Tensor,
        decoder_attention_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The inputs are `text_inputs`, the outputs `whole_outputs`.

        The decoder's mask says which logits count. No token sees those behind it, and so padding
        on the right needs no mask.
        """
        hidden = self.encoder(self.words(input_ids), attention_mask)
        masked = cross_bias(attention_mask, decoder_input_ids.shape[1])
        x = self.decoder(self.words(decoder_input_ids), Past(None, hidden, None), masked)
        return {"logits": self.head(x, self.words.weight)}
