"""A captioner: a ViT reads a picture, a causal decoder writes what it shows.

Vinyals et al. 2014, "Show and tell", https://arxiv.org/abs/1411.4555, with both halves
Transformers, as in Li et al. 2021, https://arxiv.org/abs/2109.10282: the layers of the encoder are
those of `vit`, the layers of the decoder those of `transformer`, normalized before. Patches are cut
of the picture itself, or of what a residual network sees in it: convolutions find small things in
far fewer steps (Xiao et al. 2021, https://arxiv.org/abs/2106.14881).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from edgetfm.layers.residual_stem import ResidualStem
from edgetfm.models._config import check_config
from edgetfm.models._encoder_decoder import Halves, cache_of, check_head_size, whole_outputs
from edgetfm.models._family import Family
from edgetfm.models._picture import picture_inputs
from edgetfm.models._sense_to_text import SenseToText, stages, whole_inputs
from edgetfm.models.vit import ViT, ViTConfig


@dataclass(frozen=True)
class CaptionerConfig(Halves):
    """The sizes of both halves; image_size and patch_size are (height, width) in pixels.

    context: the most tokens of a caption. stem, widths, depths: of the `ResidualStem` that patches
    are cut from; without widths they are cut from the picture.
    """

    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    vocabulary: int
    width: int
    layers: int
    decoder_layers: int
    heads: int
    decoder_heads: int
    inner: int
    decoder_inner: int
    channels: int = 3
    context: int = 32
    stem: int = 16
    widths: tuple[int, ...] = ()
    depths: tuple[int, ...] = ()
    activation: str = "gelu"
    eps: float = 1e-5
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_config(
            self,
            counts=(
                *("image_size", "patch_size", "vocabulary", "width", "layers", "decoder_layers"),
                *("heads", "decoder_heads", "inner", "decoder_inner", "context", "stem"),
                *(("widths", "depths") if self.widths else ()),
            ),
            divides=(
                ("heads", "width"),
                ("decoder_heads", "width"),
                ("patch_size", "image_size"),
            ),
            choices={"channels": (1, 3)},
            same_length=(("widths", "depths"),),
            multiples={"patch_size": self.shrink},
        )
        check_head_size(self)

    norm = "layer"
    norm_place = "pre"
    tied = True

    @property
    def shrink(self) -> int:
        """How many pixels along each side are one place of what patches are cut from."""
        return 2 * 2 ** len(self.widths) if self.widths else 1

    @property
    def encoder_context(self) -> int:
        """The tokens of a picture."""
        return self.reader.tokens

    @property
    def reader(self) -> ViTConfig:
        """The config of the encoder that reads what the stem makes of a picture."""
        down, across = (side // self.shrink for side in self.image_size)
        high, wide = (side // self.shrink for side in self.patch_size)
        return ViTConfig(
            image_size=(down, across),
            patch_size=(high, wide),
            width=self.width,
            layers=self.layers,
            heads=self.heads,
            inner=self.inner,
            channels=(self.channels, *self.widths)[-1],
            activation=self.activation,
            eps=self.eps,
            dropout=self.dropout,
        )


class Encoder(nn.Module):
    """The graph of the encoder: a picture to a vector for each of its tokens."""

    def __init__(self, c: CaptionerConfig) -> None:
        super().__init__()
        self.stem: nn.Module = nn.Identity()
        if c.widths:
            self.stem = ResidualStem(c.channels, c.stem, c.widths, c.depths, "basic")
        self.vit = ViT(c.reader, "image-feature-extraction")

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """[batch, channels, height, width] to [batch, tokens, width]."""
        return {"last_hidden_state": self.vit(self.stem(pixel_values))["last_hidden_state"]}


class Captioner(SenseToText):
    """The whole: a picture and a caption to the caption's logits."""

    def __init__(self, c: CaptionerConfig, task: str) -> None:
        super().__init__(c, Encoder(c))

    @property
    def encoder_stage(self) -> nn.Module:
        """What is exported as the first graph."""
        return self.encoder

    def forward(
        self,
        pixel_values: Tensor,
        decoder_input_ids: Tensor,
        decoder_attention_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The mask says which logits count."""
        return self.told(self.encoder(pixel_values)["last_hidden_state"], decoder_input_ids)


FAMILY = Family(
    name="captioner",
    tasks=("image-to-text",),
    config=CaptionerConfig,
    build=Captioner,
    inputs=whole_inputs(picture_inputs),
    outputs=whole_outputs,
    cache=cache_of,
    stages=stages(picture_inputs),
)
