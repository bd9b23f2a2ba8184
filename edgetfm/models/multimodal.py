"""A classifier of several senses: a text, a picture and a sound, any of which may be missing.

Each sense has an encoder; their tokens stand one after the other, each with a vector that says
which sense it is of, and go through layers of fusion that all senses share: the early fusion of
Nagrani et al. 2021, "Attention bottlenecks for multimodal fusion",
https://arxiv.org/abs/2107.00135. What is missing is masked there, so that nothing looks at it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgetfm.layers.attention import mask_bias
from edgetfm.layers.convolution import TimeConvolution
from edgetfm.layers.feed_forward import ACTIVATIONS
from edgetfm.layers.linear import Linear
from edgetfm.layers.sinusoids import sinusoids
from edgetfm.models._config import InContext, check_config
from edgetfm.models._family import Family
from edgetfm.models._layers import encoder_layers
from edgetfm.models._picture import InPatches
from edgetfm.senses import SENSES_MASK
from edgetfm.signature import TensorSpec

SENSES = ("text", "image", "audio")
"""The senses in the order of the columns of the mask that says which are there."""


@dataclass(frozen=True)
class MultimodalConfig(InContext, InPatches):
    """The sizes of all encoders; image_size and patch_size are (height, width) in pixels.

    layers: of the fusion; text_layers, image_layers, audio_layers: of each encoder. context: the
    most tokens of a text. mels: bands of the spectrogram; frames: of the sound's encoder, each of
    which is two of the spectrogram's.
    """

    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    vocabulary: int
    width: int
    layers: int
    text_layers: int
    image_layers: int
    audio_layers: int
    heads: int
    inner: int
    channels: int = 3
    context: int = 64
    mels: int = 40
    frames: int = 50
    labels: int = 2
    activation: str = "gelu"
    eps: float = 1e-5
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_config(
            self,
            counts=(
                *("image_size", "patch_size", "vocabulary", "width", "layers", "heads", "inner"),
                *("context", "mels", "frames", "labels"),
            ),
            divides=(("heads", "width"), ("patch_size", "image_size")),
            choices={"channels": (1, 3)},
        )

    norm = "layer"
    norm_place = "pre"
    least = 0
    """A sound may be as short as can be: it is padded to all frames."""
    convolutions = ()
    letters = False


def _layers(c: MultimodalConfig, count: int) -> nn.ModuleList:
    return encoder_layers(c, count, dropout=c.dropout)


class TextEncoder(nn.Module):
    """Tokens [batch, sequence] to vectors [sequence, batch, width]."""

    def __init__(self, c: MultimodalConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(c.vocabulary, c.width)
        self.positions = nn.Parameter(torch.empty(c.context, c.width).normal_(std=0.02))
        self.layers = _layers(c, c.text_layers)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Padding is looked at by nothing."""
        x: Tensor = self.words(input_ids.t()) + self.positions[: input_ids.shape[1], None]
        seen = mask_bias(attention_mask)
        for layer in self.layers:
            x = layer(x, seen)
        return x


class ImageEncoder(nn.Module):
    """Pixels [batch, channels, height, width] to vectors [patches, batch, width]."""

    def __init__(self, c: MultimodalConfig) -> None:
        super().__init__()
        self.patches = nn.Conv2d(c.channels, c.width, c.patch_size, c.patch_size)
        self.positions = nn.Parameter(torch.empty(c.patches, c.width).normal_(std=0.02))
        self.layers = _layers(c, c.image_layers)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Of a missing picture anything may be given."""
        patches: Tensor = self.patches(pixel_values)
        x: Tensor = patches.flatten(2).permute(2, 0, 1) + self.positions[:, None]
        for layer in self.layers:
            x = layer(x)
        return x


class AudioEncoder(nn.Module):
    """A spectrogram [batch, mels, 2 * frames] to vectors [frames, batch, width], as Whisper's."""

    positions: Tensor

    def __init__(self, c: MultimodalConfig) -> None:
        super().__init__()
        self.conv1 = TimeConvolution(c.mels, c.width)
        self.conv2 = TimeConvolution(c.width, c.width, stride=2)
        self.activation = ACTIVATIONS[c.activation]
        table = sinusoids(c.frames, c.width, to_the_last=True)
        self.register_buffer("positions", table, persistent=False)
        self.layers = _layers(c, c.audio_layers)

    def forward(self, input_features: Tensor) -> Tensor:
        """Of a missing sound anything may be given."""
        x: Tensor = self.activation(self.conv1(input_features.transpose(1, 2)))
        x = self.activation(self.conv2(x)) + self.positions
        x = x.transpose(0, 1)
        for layer in self.layers:
            x = layer(x)
        return x


class Multimodal(nn.Module):
    """The encoders, the fusion, and the classifier of the token that stands first."""

    def __init__(self, c: MultimodalConfig, task: str) -> None:
        super().__init__()
        self.text, self.image, self.audio = TextEncoder(c), ImageEncoder(c), AudioEncoder(c)
        self.senses = nn.Parameter(torch.empty(len(SENSES), c.width).normal_(std=0.5))
        self.class_token = nn.Parameter(torch.empty(c.width).normal_(std=0.5))
        self.layers = _layers(c, c.layers)
        self.norm = nn.LayerNorm(c.width, eps=c.eps)
        self.classifier = Linear(c.width, c.labels)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        pixel_values: Tensor,
        input_features: Tensor,
        senses_mask: Tensor,
    ) -> dict[str, Tensor]:
        """senses_mask [batch, 3] int64: 1 for each of SENSES that is there."""
        found = [
            self.text(input_ids, attention_mask),
            self.image(pixel_values),
            self.audio(input_features),
        ]
        batch = input_ids.shape[0]
        tokens = [self.class_token.expand(1, batch, -1)]
        there = [torch.ones_like(senses_mask[:, :1])]
        for number, vectors in enumerate(found):
            tokens.append(vectors + self.senses[number])
            one = senses_mask[:, number : number + 1]
            there.append(attention_mask * one if number == 0 else one.expand(-1, len(vectors)))
        x, seen = torch.cat(tokens, dim=0), mask_bias(torch.cat(there, dim=1))
        for layer in self.layers:
            x = layer(x, seen)
        return {"logits": self.classifier(self.norm(x[0]))}


def _inputs(c: MultimodalConfig, task: str) -> tuple[TensorSpec, ...]:
    text = ("batch", "sequence")
    return (
        TensorSpec("input_ids", "int64", text),
        TensorSpec("attention_mask", "int64", text),
        TensorSpec("pixel_values", "float32", ("batch", c.channels, *c.image_size)),
        TensorSpec("input_features", "float32", ("batch", c.mels, 2 * c.frames)),
        TensorSpec(SENSES_MASK, "int64", ("batch", len(SENSES))),
    )


def _outputs(c: MultimodalConfig, task: str) -> tuple[TensorSpec, ...]:
    return (TensorSpec("logits", "float32", ("batch", c.labels)),)


FAMILY = Family(
    name="multimodal",
    tasks=("multimodal-classification",),
    config=MultimodalConfig,
    build=Multimodal,
    inputs=_inputs,
    outputs=_outputs,
)
