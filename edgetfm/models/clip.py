"""CLIP: two encoders whose vectors of a picture and of the text about it are alike.

Radford et al. 2021, "Learning transferable visual models from natural language supervision",
https://arxiv.org/abs/2103.00020. The picture's encoder is a ViT with one more norm in front, the
text's is causal and gives the vector of the token that ends it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from edgetfm.layers.attention import MASKED, mask_bias
from edgetfm.layers.feed_forward import ACTIVATIONS
from edgetfm.layers.linear import Linear
from edgetfm.layers.pooling import normalize
from edgetfm.models._config import InContext, check_config
from edgetfm.models._family import Drop, Family, FromHF, Pack, Rename, Transpose
from edgetfm.models._hf import Reader
from edgetfm.models._layers import encoder_layers
from edgetfm.models._picture import InPatches
from edgetfm.signature import TensorSpec

LARGEST_SCALE = math.log(100)
"""What the logarithm of the scale may become in training, as in the paper."""


@dataclass(frozen=True)
class CLIPConfig(InContext, InPatches):
    """The sizes of both encoders; image_size and patch_size are (height, width) in pixels.

    context: the most tokens of a text. end: the id of the token that ends a text, whose vector is
    the text's; 0 is whichever id of the text is the highest. projection: the width of the vectors
    of both. scale: the logarithm of what cosines are multiplied by, at first.
    """

    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    image_width: int
    image_layers: int
    image_heads: int
    image_inner: int
    vocabulary: int
    text_width: int
    text_layers: int
    text_heads: int
    text_inner: int
    projection: int
    context: int = 77
    end: int = 0
    channels: int = 3
    activation: str = "quick_gelu"
    eps: float = 1e-5
    dropout: float = 0.0
    scale: float = 2.6592

    def __post_init__(self) -> None:
        sizes = ("width", "layers", "heads", "inner")
        check_config(
            self,
            counts=(
                *("image_size", "patch_size", "vocabulary", "context", "projection"),
                *(f"{half}_{size}" for half in ("image", "text") for size in sizes),
            ),
            divides=(
                ("image_heads", "image_width"),
                ("text_heads", "text_width"),
                ("patch_size", "image_size"),
            ),
            at_most=(("end", "vocabulary"),),
            choices={"channels": (1, 3)},
        )


def _layers(c: CLIPConfig, half: str) -> nn.ModuleList:
    """The layers of one encoder, normalized before."""
    words = {"activation": c.activation, "eps": c.eps, "dropout": c.dropout}
    own = {size: getattr(c, f"{half}_{size}") for size in ("width", "layers", "heads", "inner")}
    sizes = SimpleNamespace(norm="layer", norm_place="pre", **words, **own)
    return encoder_layers(sizes, sizes.layers)


class ImageEncoder(nn.Module):
    """Pixels [batch, channels, height, width] to a vector each, [batch, image_width]."""

    def __init__(self, c: CLIPConfig) -> None:
        super().__init__()
        width = c.image_width
        self.patches = nn.Conv2d(c.channels, width, c.patch_size, c.patch_size, bias=False)
        self.class_token = nn.Parameter(torch.empty(width).normal_(std=0.02))
        self.positions = nn.Parameter(torch.empty(c.patches + 1, width).normal_(std=0.02))
        self.first_norm = nn.LayerNorm(width, eps=c.eps)
        self.layers = _layers(c, "image")
        self.norm = nn.LayerNorm(width, eps=c.eps)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """The vector of the class token, normalized."""
        patches = self.patches(pixel_values).flatten(2).permute(2, 0, 1)
        first = self.class_token.expand(1, patches.shape[1], -1)
        x = self.first_norm(torch.cat([first, patches], dim=0) + self.positions[:, None])
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.norm(x[0])
        return out


class TextEncoder(nn.Module):
    """Tokens [batch, sequence] to a vector each text, [batch, text_width]."""

    def __init__(self, c: CLIPConfig) -> None:
        super().__init__()
        self.end = c.end
        self.words = nn.Embedding(c.vocabulary, c.text_width)
        self.positions = nn.Parameter(torch.empty(c.context, c.text_width).normal_(std=0.02))
        self.layers = _layers(c, "text")
        self.norm = nn.LayerNorm(c.text_width, eps=c.eps)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The vector of the token that ends each text, normalized."""
        batch, sequence = input_ids.shape
        x = self.words(input_ids.t()) + self.positions[:sequence, None]
        place = torch.arange(sequence, device=input_ids.device)
        later = (place[None, :] > place[:, None]).to(torch.float32) * MASKED
        seen = mask_bias(attention_mask) + later
        for layer in self.layers:
            x = layer(x, seen)
        # As int32 or a truth value made one: in ONNX ArgMax breaks no ties of int64.
        ends = input_ids if self.end == 0 else input_ids == self.end
        last = ends.to(torch.int32).argmax(dim=1)
        out: Tensor = self.norm(x[last, torch.arange(batch, device=input_ids.device)])
        return out


class CLIP(nn.Module):
    """Both encoders: texts and pictures, a batch of each, compared each with each."""

    def __init__(self, c: CLIPConfig, task: str) -> None:
        super().__init__()
        self.text, self.image = TextEncoder(c), ImageEncoder(c)
        self.text_projection = Linear(c.text_width, c.projection, bias=False)
        self.image_projection = Linear(c.image_width, c.projection, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(float(c.scale)))

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor
    ) -> dict[str, Tensor]:
        """Texts [texts, sequence] and pictures [pictures, channels, height, width].

        logits_per_image is [pictures, texts]: the cosines times the scale.
        """
        texts = normalize(self.text_projection(self.text(input_ids, attention_mask)))
        pictures = normalize(self.image_projection(self.image(pixel_values)))
        scale = self.logit_scale.clamp(max=LARGEST_SCALE) if self.training else self.logit_scale
        logits = torch.matmul(pictures, texts.t()) * scale.exp()
        return {"logits_per_image": logits, "text_embeds": texts, "image_embeds": pictures}


def _inputs(c: CLIPConfig, task: str) -> tuple[TensorSpec, ...]:
    text = ("text_batch", "sequence")
    return (
        TensorSpec("input_ids", "int64", text),
        TensorSpec("attention_mask", "int64", text),
        TensorSpec("pixel_values", "float32", ("image_batch", c.channels, *c.image_size)),
    )


def _outputs(c: CLIPConfig, task: str) -> tuple[TensorSpec, ...]:
    return (
        TensorSpec("logits_per_image", "float32", ("image_batch", "text_batch")),
        TensorSpec("text_embeds", "float32", ("text_batch", c.projection)),
        TensorSpec("image_embeds", "float32", ("image_batch", c.projection)),
    )


_SIZES = {
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "inner": "intermediate_size",
}
"""Sizes of an encoder by our names -> by Hugging Face's."""


def _config_from_hf(hf: Mapping[str, Any], task: str) -> CLIPConfig:
    """The config of a CLIP; a SourceError for what the family cannot honour."""
    read = Reader(hf, "clip")
    halves = {
        half: Reader(hf.get(f"{theirs}_config") or {}, "clip")
        for half, theirs in (("image", "vision"), ("text", "text"))
    }
    image, text = halves["image"], halves["text"]
    end = text.whole("eos_token_id", 49407)
    values: dict[str, Any] = {
        f"{half}_{ours}": reader.size(theirs)
        for half, reader in halves.items()
        for ours, theirs in _SIZES.items()
    }
    values |= {
        "image_size": image.pair("image_size"),
        "patch_size": image.pair("patch_size"),
        "channels": image.size("num_channels"),
        "vocabulary": text.size("vocab_size"),
        "context": text.size("max_position_embeddings"),
        "end": 0 if end == 2 else end,  # what OpenAI's files say, whose last id ends a text
        "projection": read.size("projection_dim"),
        "activation": text.one_of("hidden_act", ACTIVATIONS, "quick_gelu"),
        "eps": text.number("layer_norm_eps", 1e-5),
        "scale": read.number("logit_scale_init_value", 2.6592),
    }
    image.refuse("num_channels", allowed=(1, 3))
    for key, same in (("hidden_act", "quick_gelu"), ("layer_norm_eps", 1e-5)):
        image.refuse(key, allowed=(text.config.get(key, same),))
    for half, reader in halves.items():
        reader.divides(
            "num_attention_heads", values[f"{half}_heads"], "hidden_size", values[f"{half}_width"]
        )
        read.take(reader, f"{half} encoder")
    read.finish()
    return CLIPConfig(**values)


def _config_to_hf(c: CLIPConfig, task: str) -> dict[str, Any]:
    """The config.json of this model: `_config_from_hf` makes the same config of it."""
    same = {"hidden_act": c.activation, "layer_norm_eps": c.eps, "projection_dim": c.projection}
    sizes = {
        half: {theirs: getattr(c, f"{half}_{ours}") for ours, theirs in _SIZES.items()}
        for half in ("image", "text")
    }
    (height, width), (down, across) = c.image_size, c.patch_size
    return {
        "model_type": "clip",
        "architectures": ["CLIPModel"],
        "projection_dim": c.projection,
        "logit_scale_init_value": c.scale,
        "text_config": {
            **sizes["text"],
            **same,
            "model_type": "clip_text_model",
            "vocab_size": c.vocabulary,
            "max_position_embeddings": c.context,
            "eos_token_id": c.end or 2,
        },
        "vision_config": {
            **sizes["image"],
            **same,
            "model_type": "clip_vision_model",
            "image_size": height if height == width else [height, width],
            "patch_size": down if down == across else [down, across],
            "num_channels": c.channels,
        },
    }


FAMILY = Family(
    name="clip",
    tasks=("zero-shot-image-classification",),
    config=CLIPConfig,
    build=CLIP,
    inputs=_inputs,
    outputs=_outputs,
    to_hf=_config_to_hf,
    from_hf=FromHF(
        model_types=("clip",),
        config=_config_from_hf,
        weights=(
            Drop(r"\.position_ids$"),
            Rename(r"^text_model\.", "text."),
            Rename(r"^vision_model\.", "image."),
            Rename(r"^visual_projection\.", "image_projection."),
            Rename(r"\.embeddings\.token_embedding\.", ".words."),
            Rename(r"\.embeddings\.patch_embedding\.", ".patches."),
            Rename(r"\.embeddings\.class_embedding$", ".class_token"),
            Rename(r"\.embeddings\.position_embedding\.weight$", ".positions"),
            Rename(r"\.pre_layrnorm\.", ".first_norm."),  # as Hugging Face spells it
            Rename(r"\.(?:post_layernorm|final_layer_norm)\.", ".norm."),
            Rename(r"\.encoder\.layers\.", ".layers."),
            Rename(r"\.layer_norm1\.", ".attention_norm."),
            Rename(r"\.layer_norm2\.", ".feed_forward_norm."),
            Rename(r"\.self_attn\.out_proj\.", ".attention.out."),
            Rename(r"\.self_attn\.([qkv])_proj\.", r".attention.\1."),
            Rename(r"\.mlp\.fc1\.", ".feed_forward.up."),
            Rename(r"\.mlp\.fc2\.", ".feed_forward.down."),
            Pack(("q", "k", "v"), "qkv"),
            Transpose(r"(\.(qkv|out|up|down)|_projection)\.weight$"),
        ),
    ),
)
