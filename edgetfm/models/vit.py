"""Pre-norm image encoders: ViT and DeiT.

Dosovitskiy et al. 2020, https://arxiv.org/abs/2010.11929, and with a distillation token
Touvron et al. 2020, https://arxiv.org/abs/2012.12877.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgetfm.layers.attention import SelfAttention
from edgetfm.layers.feed_forward import ACTIVATIONS, FeedForward
from edgetfm.layers.linear import Linear
from edgetfm.models._config import check_config
from edgetfm.models._family import Drop, Family, FromHF, Pack, Rename, SwapAxes, Transpose
from edgetfm.models._hf import Reader
from edgetfm.models._picture import InPatches, picture_inputs
from edgetfm.signature import TensorSpec


@dataclass(frozen=True)
class ViTConfig(InPatches):
    """The sizes of an image encoder; image_size and patch_size are (height, width) in pixels.

    distillation: a second token beside the class token. teacher: the second token has a
    classifier too, and the logits are the mean of both.
    """

    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    width: int
    layers: int
    heads: int
    inner: int
    channels: int = 3
    labels: int = 2
    activation: str = "gelu"
    eps: float = 1e-12
    qkv_bias: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0
    distillation: bool = False
    teacher: bool = False

    def __post_init__(self) -> None:
        check_config(
            self,
            counts=(
                *("image_size", "patch_size", "width", "layers", "heads", "inner", "labels"),
                "channels",
            ),
            divides=(("heads", "width"), ("patch_size", "image_size")),
        )

    @property
    def tokens(self) -> int:
        """The length of a sequence: the class token, the distillation token if any, the patches."""
        return self.patches + (2 if self.distillation else 1)


class Embeddings(nn.Module):
    """Pixels [batch, channels, height, width] to tokens [tokens, batch, width]."""

    def __init__(self, c: ViTConfig) -> None:
        super().__init__()
        self.patches = nn.Conv2d(c.channels, c.width, c.patch_size, c.patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, c.width))
        if c.distillation:
            self.distillation_token = nn.Parameter(torch.zeros(1, 1, c.width))
        self.positions = nn.Parameter(torch.empty(c.tokens, 1, c.width).normal_(std=0.02))
        self.distillation = c.distillation
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Pixels as floats, preprocessed."""
        patches = self.patches(pixel_values).flatten(2).permute(2, 0, 1)
        first: Tensor = self.class_token
        if self.distillation:
            first = torch.cat([first, self.distillation_token], dim=0)
        x = torch.cat([first.expand(-1, patches.shape[1], -1), patches], dim=0)
        out: Tensor = self.dropout(x + self.positions)
        return out


class Layer(nn.Module):
    """Attention and feed-forward, each on the normalized input and added to it."""

    def __init__(self, c: ViTConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(c.width, eps=c.eps)
        self.attention = SelfAttention(
            c.width, c.heads, qkv_bias=c.qkv_bias, dropout=c.attention_dropout
        )
        self.feed_forward_norm = nn.LayerNorm(c.width, eps=c.eps)
        self.feed_forward = FeedForward(c.width, c.inner, c.activation)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[tokens, batch, width] in and out."""
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        out: Tensor = x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
        return out


class ViT(nn.Module):
    """The encoder with the head of one task."""

    def __init__(self, c: ViTConfig, task: str) -> None:
        super().__init__()
        self.config, self.task = c, task
        self.embeddings = Embeddings(c)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.width, eps=c.eps)
        if task == "image-classification":
            self.classifier = Linear(c.width, c.labels)
            if c.teacher:
                self.distillation_classifier = Linear(c.width, c.labels)

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """[batch, channels, height, width] in; the outputs are those of the task, by name."""
        x = self.embeddings(pixel_values)
        for layer in self.layers:
            x = layer(x)
        if self.task == "image-feature-extraction":
            x = self.norm(x.transpose(0, 1))
            return {"last_hidden_state": x, "image_embedding": x[:, 0]}
        if self.config.teacher:
            x = self.norm(x[:2])
            logits = self.classifier(x[0]) + self.distillation_classifier(x[1])
            return {"logits": logits / 2}
        # Only the class token is looked at: the others need no norm.
        return {"logits": self.classifier(self.norm(x[0]))}


def _outputs(c: ViTConfig, task: str) -> tuple[TensorSpec, ...]:
    if task == "image-classification":
        return (TensorSpec("logits", "float32", ("batch", c.labels)),)
    return (
        TensorSpec("last_hidden_state", "float32", ("batch", c.tokens, c.width)),
        TensorSpec("image_embedding", "float32", ("batch", c.width)),
    )


def _config_from_hf(hf: Mapping[str, Any], task: str) -> ViTConfig:
    """The config of either type; a SourceError for what the encoder cannot honour."""
    read = Reader(hf, "vit")
    architectures = hf.get("architectures") or []
    values: dict[str, Any] = dict(  # noqa: C408  (a call is what follows)
        image_size=read.pair("image_size"),
        patch_size=read.pair("patch_size"),
        width=read.size("hidden_size"),
        layers=read.size("num_hidden_layers"),
        heads=read.size("num_attention_heads"),
        inner=read.size("intermediate_size"),
        channels=read.size("num_channels"),
        labels=len(hf.get("id2label") or {}) or 2,
        activation=read.one_of("hidden_act", ACTIVATIONS, "gelu"),
        eps=read.number("layer_norm_eps", 1e-12),
        qkv_bias=bool(hf.get("qkv_bias", True)),
        dropout=read.number("hidden_dropout_prob", 0.0),
        attention_dropout=read.number("attention_probs_dropout_prob", 0.0),
        distillation=read.model_type == "deit",
        teacher="DeiTForImageClassificationWithTeacher" in architectures,
    )
    read.divides("num_attention_heads", values["heads"], "hidden_size", values["width"])
    for side, patch in zip(values["image_size"], values["patch_size"], strict=True):
        read.divides("patch_size", patch, "image_size", side)
    read.refuse("head_dim", allowed=(None, values["width"] // values["heads"]))
    read.refuse("num_channels", allowed=(1, 3))
    read.finish()
    return ViTConfig(**values)


def _config_to_hf(c: ViTConfig, task: str) -> dict[str, Any]:
    """The config.json of this encoder: `_config_from_hf` makes the same config of it."""
    name = "DeiT" if c.distillation else "ViT"
    head = "ForImageClassification" if task == "image-classification" else "Model"
    height, width = c.image_size
    down, across = c.patch_size
    return {
        "model_type": name.lower(),
        "architectures": [f"{name}{head}{'WithTeacher' * c.teacher}"],
        "image_size": height if height == width else [height, width],
        "patch_size": down if down == across else [down, across],
        "num_channels": c.channels,
        "hidden_size": c.width,
        "num_hidden_layers": c.layers,
        "num_attention_heads": c.heads,
        "intermediate_size": c.inner,
        "hidden_act": c.activation,
        "layer_norm_eps": c.eps,
        "qkv_bias": c.qkv_bias,
        "hidden_dropout_prob": c.dropout,
        "attention_probs_dropout_prob": c.attention_dropout,
    }


_LAYER = r"^(?:encoder\.layer|layers)\.(\d+)\."

FAMILY = Family(
    name="vit",
    tasks=("image-classification", "image-feature-extraction"),
    config=ViTConfig,
    build=ViT,
    inputs=picture_inputs,
    outputs=_outputs,
    to_hf=_config_to_hf,
    from_hf=FromHF(
        model_types=("vit", "deit"),
        config=_config_from_hf,
        weights=(
            Rename(r"^(vit|deit)\.", ""),
            # The pooler and the token for masked images belong to no task here.
            Drop(r"^pooler\.|^embeddings\.mask_token$"),
            Rename(r"^embeddings\.cls_token$", "embeddings.class_token"),
            Rename(r"^embeddings\.patch_embeddings\.projection\.", "embeddings.patches."),
            Rename(r"^embeddings\.position_embeddings$", "embeddings.positions"),
            SwapAxes(r"^embeddings\.positions$", 0, 1),  # the sequence comes first here
            Rename(_LAYER + r"attention\.attention\.query\.", r"layers.\1.attention.q."),
            Rename(_LAYER + r"attention\.attention\.key\.", r"layers.\1.attention.k."),
            Rename(_LAYER + r"attention\.attention\.value\.", r"layers.\1.attention.v."),
            Rename(_LAYER + r"attention\.output\.dense\.", r"layers.\1.attention.out."),
            Rename(_LAYER + r"intermediate\.dense\.", r"layers.\1.feed_forward.up."),
            Rename(_LAYER + r"output\.dense\.", r"layers.\1.feed_forward.down."),
            # The names transformers 5 has in memory; its files keep the older ones.
            Rename(_LAYER + r"attention\.([qkv])_proj\.", r"layers.\1.attention.\2."),
            Rename(_LAYER + r"attention\.o_proj\.", r"layers.\1.attention.out."),
            Rename(_LAYER + r"mlp\.fc1\.", r"layers.\1.feed_forward.up."),
            Rename(_LAYER + r"mlp\.fc2\.", r"layers.\1.feed_forward.down."),
            Rename(_LAYER + r"layernorm_before\.", r"layers.\1.attention_norm."),
            Rename(_LAYER + r"layernorm_after\.", r"layers.\1.feed_forward_norm."),
            Rename(r"^layernorm\.", "norm."),
            Rename(r"^cls_classifier\.", "classifier."),
            Pack(("q", "k", "v"), "qkv"),
            Transpose(r"(qkv|out|up|down|classifier)\.weight$"),
        ),
        elsewhere=r"^(classifier|distillation_classifier)\.",
    ),
)
