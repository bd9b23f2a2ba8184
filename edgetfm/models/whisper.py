"""Whisper: a Transformer that reads a spectrogram and writes what is said.

Radford et al. 2022, "Robust speech recognition via large-scale weak supervision",
https://arxiv.org/abs/2212.04356; the code is at https://github.com/openai/whisper. Its layers are
those of `transformer`, normalized before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from edgetfm.layers.convolution import TimeConvolution
from edgetfm.layers.feed_forward import ACTIVATIONS
from edgetfm.layers.sinusoids import sinusoids
from edgetfm.layers.whole_attention import WholeAttention
from edgetfm.models._config import check_config
from edgetfm.models._encoder_decoder import Halves, cache_of, check_head_size, whole_outputs
from edgetfm.models._family import Family, FromHF, Rename, Unfold, ZeroBias
from edgetfm.models._hf import Reader
from edgetfm.models._layers import (
    LAYER_NAMES,
    LAYER_SHAPES,
    encoder_layers,
    sizes_from_hf,
    sizes_to_hf,
)
from edgetfm.models._sense_to_text import SenseToText, stages, whole_inputs
from edgetfm.signature import TensorSpec


@dataclass(frozen=True)
class WhisperConfig(Halves):
    """The sizes of both halves.

    mels: bands of the spectrogram. frames: of the encoder's answer, each of which is two of the
    spectrogram's. context: the most tokens of a text. scaled: whether words are multiplied by
    the root of the width.
    """

    vocabulary: int
    width: int
    layers: int
    decoder_layers: int
    heads: int
    decoder_heads: int
    inner: int
    decoder_inner: int
    mels: int = 80
    frames: int = 1500
    context: int = 448
    scaled: bool = False
    tied: bool = True
    activation: str = "gelu"
    eps: float = 1e-5
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_config(
            self,
            counts=(
                *("vocabulary", "width", "layers", "decoder_layers", "heads", "decoder_heads"),
                *("inner", "decoder_inner", "mels", "frames", "context"),
            ),
            divides=(("heads", "width"), ("decoder_heads", "width")),
        )
        check_head_size(self)

    norm = "layer"
    norm_place = "pre"
    least = 0
    """A sound may be as short as can be: it is padded to all frames."""
    convolutions = ()
    letters = False
    """It writes tokens of a text, not a letter for each frame."""

    @property
    def encoder_context(self) -> int:
        """The frames that are read."""
        return self.frames


class Encoder(nn.Module):
    """A spectrogram to what the decoder attends to."""

    positions: Tensor

    def __init__(self, c: WhisperConfig) -> None:
        super().__init__()
        self.conv1 = TimeConvolution(c.mels, c.width)
        self.conv2 = TimeConvolution(c.width, c.width, stride=2)
        self.activation = ACTIVATIONS["gelu"]
        self.register_buffer("positions", sinusoids(c.frames, c.width, to_the_last=True))
        self.layers = encoder_layers(c, c.layers, WholeAttention)
        self.norm = nn.LayerNorm(c.width, eps=c.eps)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, input_features: Tensor) -> Tensor:
        """[batch, mels, 2 * frames] to [batch, frames, width]."""
        x = self.activation(self.conv1(input_features.transpose(1, 2)))
        x = self.activation(self.conv2(x))
        x = self.dropout(x + self.positions)
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.norm(x)
        return out


class EncoderStage(nn.Module):
    """The graph of the encoder."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_features: Tensor) -> dict[str, Tensor]:
        """A vector for each frame."""
        return {"last_hidden_state": self.encoder(input_features)}


class Whisper(SenseToText):
    """The whole: a spectrogram and a text to the text's logits."""

    def __init__(self, c: WhisperConfig, task: str) -> None:
        super().__init__(c, Encoder(c), scale=c.width**0.5 if c.scaled else 1.0)

    @property
    def encoder_stage(self) -> EncoderStage:
        """What is exported as the first graph; it shares the weights."""
        return EncoderStage(self.encoder)

    def forward(
        self,
        input_features: Tensor,
        decoder_input_ids: Tensor,
        decoder_attention_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The mask says which logits count."""
        return self.told(self.encoder(input_features), decoder_input_ids)


def _encoder_inputs(c: WhisperConfig, task: str) -> tuple[TensorSpec, ...]:
    return (TensorSpec("input_features", "float32", ("batch", c.mels, 2 * c.frames)),)


def _config_from_hf(hf: Mapping[str, Any], task: str) -> WhisperConfig:
    """The config of a Whisper; a SourceError for what the family cannot honour."""
    read = Reader(hf, "whisper")
    values: dict[str, Any] = dict(
        **sizes_from_hf(read),
        mels=read.size("num_mel_bins"),
        frames=read.size("max_source_positions"),
        context=read.size("max_target_positions"),
    )
    read.finish()
    return WhisperConfig(**values)


def _config_to_hf(c: WhisperConfig, task: str) -> dict[str, Any]:
    """The config.json of this model: `_config_from_hf` makes the same config of it."""
    return {
        "model_type": "whisper",
        "architectures": ["WhisperForConditionalGeneration"],
        "num_mel_bins": c.mels,
        "max_source_positions": c.frames,
        "max_target_positions": c.context,
        **sizes_to_hf(c),
    }


FAMILY = Family(
    name="whisper",
    tasks=("automatic-speech-recognition",),
    config=WhisperConfig,
    build=Whisper,
    inputs=whole_inputs(_encoder_inputs),
    outputs=whole_outputs,
    cache=cache_of,
    to_hf=_config_to_hf,
    stages=stages(_encoder_inputs),
    from_hf=FromHF(
        model_types=("whisper",),
        config=_config_from_hf,
        weights=(
            Rename(r"^model\.", ""),
            Rename(r"^proj_out\.", "head."),
            Rename(r"^decoder\.embed_tokens\.", "words."),
            Rename(r"^encoder\.embed_positions\.weight$", "encoder.positions"),
            Rename(r"\.embed_positions\.", ".positions."),
            Rename(r"^((en|de)coder)\.layer_norm\.", r"\1.norm."),
            Unfold(r"\.conv[12]\.weight$"),
            *LAYER_NAMES,
            ZeroBias(r"\.(k|key)$"),  # keys have no bias: it would change no score's rank
            *LAYER_SHAPES,
        ),
        elsewhere=r"^head\.",  # some checkpoints keep a copy of tied embeddings
    ),
)
