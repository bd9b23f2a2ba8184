"""The class of every pixel, by an image encoder of patches.

Strudel et al. 2021, https://arxiv.org/abs/2105.05633: each patch is read by a vision transformer
and written back. Here two linear layers write the classes of all of its pixels, and positions are
waves, so that pictures may be of any size.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from edgetfm.layers.feed_forward import ACTIVATIONS
from edgetfm.layers.image_positions import grid_positions
from edgetfm.layers.linear import Linear
from edgetfm.layers.parts import NORMS, PLACES
from edgetfm.layers.residual_stem import Block, Convolution
from edgetfm.models._config import check_config
from edgetfm.models._family import Family
from edgetfm.models._layers import encoder_layers
from edgetfm.models._picture import FREE, picture_inputs
from edgetfm.signature import TensorSpec


@dataclass(frozen=True)
class SegmenterConfig:
    """The sizes of a segmenter; image_size is FREE, (0, 0), for pictures of any size.

    patch_size: pixels along each side of a patch. detail: how many classes it tells along each
    side: as many as it has pixels, or a divisor of them, and the runtime draws the rest.
    stem: how many residual blocks halve the size before patches are cut, from which a vision
    transformer learns in fewer steps (Xiao et al. 2021, https://arxiv.org/abs/2106.14881). Patches
    are then written back over what the first of them saw, so that edges lie where they are
    (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597).
    """

    patch_size: int
    width: int
    layers: int
    heads: int
    inner: int
    detail: int
    stem: int = 0
    channels: int = 3
    labels: int = 2
    activation: str = "gelu"
    norm: str = "layer"
    norm_place: str = "pre"
    eps: float = 1e-6
    dropout: float = 0.0
    image_size: tuple[int, int] = FREE

    def __post_init__(self) -> None:
        check_config(
            self,
            counts=(
                *("patch_size", "width", "layers", "heads", "inner", "detail"),
                *("channels", "labels"),
            ),
            divides=(
                ("heads", "width"),
                ("detail", "patch_size"),
                *((("halved", "patch_size"), ("side", "detail")) if self.stem else ()),
            ),
            multiples={
                "width": max(4, self.halved // 2),
                "image_size": max(1, self.patch_size),
            },
            words={"norm": NORMS, "norm_place": PLACES},
        )

    @property
    def halved(self) -> int:
        """How many times as long as that of its answer the side of what a stem reads is."""
        return 1 << min(self.stem, 30)  # beyond the largest of patches

    @property
    def side(self) -> int:
        """How many places the first block of a stem sees along each side of a patch."""
        return self.patch_size // 2


class Segmenter(nn.Module):
    """The encoder and the decoder of patches."""

    def __init__(self, c: SegmenterConfig, task: str) -> None:
        super().__init__()
        self.config = c
        sizes = (c.channels, *(c.width // 2**n for n in reversed(range(c.stem))))
        self.stem = nn.ModuleList(Block("basic", a, b, 2, early=False) for a, b in pairwise(sizes))
        rest = c.patch_size // c.halved
        self.patches = nn.Conv2d(sizes[-1], c.width, rest, rest)
        self.layers = encoder_layers(c, c.layers)
        self.norm = nn.LayerNorm(c.width, eps=c.eps)
        self.activation = ACTIVATIONS[c.activation]
        if c.stem:
            fine = sizes[1]
            self.up = Linear(c.width, fine * c.side**2)
            self.mix = Convolution(fine, fine, 3)
            told = c.labels * (c.detail // c.side) ** 2
            self.classifier: nn.Module = nn.Conv2d(fine, told, 1)
        else:
            self.up = Linear(c.width, c.inner)
            self.classifier = Linear(c.inner, c.labels * c.detail**2)

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """[batch, channels, height, width] in, logits [batch, labels, rows, columns] out.

        Rows and columns are `detail` a patch; pixels that fill no patch are left out.
        """
        c, seen = self.config, pixel_values
        if c.stem and c.image_size == FREE:
            high, wide = (side // c.patch_size * c.patch_size for side in seen.shape[2:])
            seen = seen[:, :, :high, :wide]
        fine = []
        for block in self.stem:
            seen = block(seen)
            fine.append(seen)
        patches = self.patches(seen)
        rows, columns = patches.shape[2:]
        places = grid_positions(rows, columns, c.width, patches)
        x = patches.flatten(2).permute(2, 0, 1) + places[:, None]
        for layer in self.layers:
            x = layer(x)
        x = self.up(self.norm(x))
        if c.stem:
            over = fine[0] + spread(x, rows, columns, c.side)
            logits = self.classifier(self.mix(over))
            return {"logits": functional.pixel_shuffle(logits, c.detail // c.side)}
        return {"logits": spread(self.classifier(self.activation(x)), rows, columns, c.detail)}


def spread(x: Tensor, rows: int, columns: int, side: int) -> Tensor:
    """What patches hold, [patches, batch, channels * side * side], where they lie in a picture.

    Out comes [batch, channels, rows * side, columns * side].
    """
    batch = x.shape[1]
    x = x.reshape(rows, columns, batch, -1, side, side).permute(2, 3, 0, 4, 1, 5)
    return x.reshape(batch, -1, rows * side, columns * side)


def _outputs(c: SegmenterConfig, task: str) -> tuple[TensorSpec, ...]:
    sides: tuple[int | str, ...] = ("rows", "columns")
    if c.image_size != FREE:
        sides = tuple(side // c.patch_size * c.detail for side in c.image_size)
    return (TensorSpec("logits", "float32", ("batch", c.labels, *sides)),)


FAMILY = Family(
    name="segmenter",
    tasks=("image-segmentation",),
    config=SegmenterConfig,
    build=Segmenter,
    inputs=picture_inputs,
    outputs=_outputs,
)
