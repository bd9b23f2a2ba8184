"""Detection as a set: a convolutional stem, an encoder, and queries that each find one object.

Carion et al. 2020, https://arxiv.org/abs/2005.12872.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgetfm.layers.feed_forward import ACTIVATIONS, FeedForward
from edgetfm.layers.image_positions import (
    around,
    begun,
    grid,
    grid_positions,
    middles,
    nearness,
    waves,
)
from edgetfm.layers.linear import Linear
from edgetfm.layers.placed_attention import PlacedAttention
from edgetfm.layers.residual_stem import BLOCKS, REDUCTION, ResidualStem
from edgetfm.models._config import check_config
from edgetfm.models._family import Drop, Family, FromHF, Rename, Transpose
from edgetfm.models._hf import Reader
from edgetfm.models._layers import HALVES
from edgetfm.models._picture import FREE, picture_inputs
from edgetfm.signature import TensorSpec

ANCHORS = ("learned", "grid")
REACH = 0.25
"""How far around where it looks a head reaches at first, as a share of a query's box."""
LEAST = 0.05
"""What a reach is never below, as a share of a picture."""


@dataclass(frozen=True)
class DetrConfig:
    """The sizes of a detector; image_size is FREE, (0, 0), for pictures of any size.

    labels: the classes, without the one for nothing. stem, widths, depths, block, first, early:
    of `ResidualStem`, whose last stage the encoder reads. anchors: where queries look: 'learned'
    as in the paper; or queries begin with the boxes of a 'grid', every layer of the decoder looks
    around their boxes and makes them better, which converges many times sooner (Liu et al. 2022,
    https://arxiv.org/abs/2201.12329).
    """

    queries: int
    width: int
    layers: int
    decoder_layers: int
    heads: int
    decoder_heads: int
    inner: int
    decoder_inner: int
    stem: int
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    block: str = "basic"
    first: bool = False
    early: bool = False
    channels: int = 3
    labels: int = 2
    anchors: str = "learned"
    activation: str = "relu"
    dropout: float = 0.0
    attention_dropout: float = 0.0
    image_size: tuple[int, int] = FREE

    def __post_init__(self) -> None:
        check_config(
            self,
            counts=(
                *("queries", "width", "layers", "decoder_layers", "heads", "decoder_heads"),
                *("inner", "decoder_inner", "stem", "widths", "depths", "channels", "labels"),
            ),
            divides=(("heads", "width"), ("decoder_heads", "width")),
            same_length=(("widths", "depths"),),
            multiples={"width": 4} | ({"widths": REDUCTION} if self.block == BLOCKS[1] else {}),
            words={"block": BLOCKS, "anchors": ANCHORS},
        )


class EncoderLayer(nn.Module):
    """Attention of places to each other and feed-forward, each added and then normalized."""

    def __init__(self, c: DetrConfig) -> None:
        super().__init__()
        self.attention = PlacedAttention(c.width, c.heads, dropout=c.attention_dropout)
        self.attention_norm = nn.LayerNorm(c.width)
        self.feed_forward = FeedForward(c.width, c.inner, c.activation)
        self.feed_forward_norm = nn.LayerNorm(c.width)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """[batch, places, width] in and out."""
        x = self.attention_norm(x + self.dropout(self.attention(x, places)))
        out: Tensor = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return out


class DecoderLayer(nn.Module):
    """Attention of queries to each other and to the picture, and feed-forward."""

    def __init__(self, c: DetrConfig) -> None:
        super().__init__()
        heads, dropout = c.decoder_heads, c.attention_dropout
        self.attention = PlacedAttention(c.width, heads, dropout=dropout)
        self.attention_norm = nn.LayerNorm(c.width)
        self.cross = PlacedAttention(c.width, heads, dropout=dropout)
        self.cross_norm = nn.LayerNorm(c.width)
        self.feed_forward = FeedForward(c.width, c.decoder_inner, c.activation)
        self.feed_forward_norm = nn.LayerNorm(c.width)
        self.dropout = nn.Dropout(c.dropout)

    def forward(
        self, x: Tensor, queries: Tensor, picture: Tensor, places: Tensor, near: Tensor | None
    ) -> Tensor:
        """[batch, queries, width] in and out; `queries` and `places` are where each one is.

        near: what is added to the scores of places, for queries that look around a point.
        """
        x = self.attention_norm(x + self.dropout(self.attention(x, queries)))
        x = self.cross_norm(x + self.dropout(self.cross(x, queries, picture, places, near)))
        out: Tensor = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return out


class Detr(nn.Module):
    """The detector."""

    def __init__(self, c: DetrConfig, task: str) -> None:
        super().__init__()
        self.config = c
        self.stem = ResidualStem(
            c.channels, c.stem, c.widths, c.depths, c.block, first=c.first, early=c.early
        )
        self.project = nn.Conv2d(c.widths[-1], c.width, 1)
        self.layers = nn.ModuleList(EncoderLayer(c) for _ in range(c.layers))
        self.decoder_layers = nn.ModuleList(DecoderLayer(c) for _ in range(c.decoder_layers))
        self.norm = nn.LayerNorm(c.width)
        self.classifier = Linear(c.width, c.labels + 1)
        sizes = (c.width, c.width, c.width, 4)
        boxes = [Linear(a, b) for a, b in pairwise(sizes)]
        self.boxes = nn.ModuleList(boxes)
        self.queries = nn.Parameter(torch.empty(c.queries, c.width).normal_())
        if c.anchors == "grid":
            points = grid(c.queries)
            with torch.no_grad():
                half = c.width // 2
                self.queries.copy_(torch.cat([waves(p, half) for p in points.t().flip(0)], dim=-1))
            self.anchors = nn.Parameter(begun(points))
            aside = around(c.decoder_heads).repeat(c.decoder_layers, 1, 1)
            self.aside = nn.Parameter(aside)
            self.reach = nn.Parameter(torch.full(aside.shape[:2], REACH))

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        """[batch, channels, height, width] in; of each query its classes and its box.

        logits [batch, queries, labels + 1], the last for nothing; pred_boxes [batch, queries, 4],
        centre, width and height as shares of the picture. In training those of the earlier layers
        of the decoder too, [layers - 1, batch, queries, ...], and with a grid what each place of
        the encoder takes itself for, [batch, places, ...].
        """
        seen = self.project(self.stem(pixel_values))
        places = grid_positions(seen.shape[2], seen.shape[3], seen.shape[1], seen)
        picture = seen.flatten(2).transpose(1, 2)
        for layer in self.layers:
            picture = layer(picture, places)
        x = torch.zeros_like(self.queries).expand(seen.shape[0], -1, -1)
        found, box, near = [], None, None
        if self.config.anchors == "grid":
            box = self.anchors.expand(seen.shape[0], -1, -1)
        for number, layer in enumerate(self.decoder_layers):
            if box is not None:
                near = self._near(box, number, seen)
            x = layer(x, self.queries, picture, places, near)
            if self.training or box is not None or number == len(self.decoder_layers) - 1:
                found.append(self._read(x, box))
            if box is not None:
                # A layer learns to make a box better, not to make it easy for the next one.
                box = found[-1][1].detach()
        answer = {"logits": found[-1][0], "pred_boxes": torch.sigmoid(found[-1][1])}
        if self.training and len(found) > 1:
            logits, boxes = (torch.stack(part) for part in zip(*found[:-1], strict=True))
            answer |= {"earlier_logits": logits, "earlier_boxes": torch.sigmoid(boxes)}
        if self.training and box is not None:
            logits, boxes = self._read(picture, begun(middles(seen.shape[2], seen.shape[3], seen)))
            answer |= {"place_logits": logits, "place_boxes": torch.sigmoid(boxes)}
        return answer

    def begin(self) -> None:
        """Once weights are drawn: boxes are those of the grid until something is learned."""
        if self.config.anchors == "grid":
            nn.init.zeros_(self.get_parameter("boxes.2.weight"))

    def _near(self, box: Tensor, number: int, seen: Tensor) -> Tensor:
        """What layer `number` adds to scores, [batch, heads, queries, places], for boxes."""
        shares = torch.sigmoid(box)[:, None]
        middle, sides = shares[..., :2], shares[..., 2:]
        points = middle + self.aside[number][:, None] * sides
        reach = LEAST + self.reach[number].abs()[:, None, None] * sides
        return nearness(points, reach, seen.shape[2], seen.shape[3])

    def _read(self, x: Tensor, box: Tensor | None) -> tuple[Tensor, Tensor]:
        """Classes and boxes before the sigmoid; `box` is what they begin with."""
        x = self.norm(x)
        better = functional.relu(self.boxes[0](x))
        better = self.boxes[2](functional.relu(self.boxes[1](better)))
        return self.classifier(x), better if box is None else box + better


def _outputs(c: DetrConfig, task: str) -> tuple[TensorSpec, ...]:
    return (
        TensorSpec("logits", "float32", ("batch", c.queries, c.labels + 1)),
        TensorSpec("pred_boxes", "float32", ("batch", c.queries, 4)),
    )


_SIZES = {"queries": "num_queries", **HALVES, "channels": "num_channels"}
"""Sizes by our names -> by Hugging Face's."""


def _config_from_hf(hf: Mapping[str, Any], task: str) -> DetrConfig:
    """The config; NotHonoured for stems that are no residual network of transformers' own."""
    read = Reader(hf, "detr")
    values: dict[str, Any] = {ours: read.size(theirs) for ours, theirs in _SIZES.items()}
    for heads in ("heads", "decoder_heads"):
        read.divides(_SIZES[heads], values[heads], "d_model", values["width"])
    read.divides("4", 4, "d_model", values["width"])
    read.refuse("position_embedding_type", allowed=("sine", None))
    read.refuse("dilation", allowed=(False, None))
    stem = Reader(hf.get("backbone_config") or {}, "detr")
    stem.refuse("model_type", allowed=("resnet",))
    if not stem.problems:
        stem.refuse("hidden_act", allowed=("relu", None))
        stem.refuse("num_channels", allowed=(values["channels"], None))
        values |= _stem_from_hf(stem)
    read.take(stem, "backbone_config")
    values |= {
        "labels": len(hf.get("id2label") or {}) or 2,
        "activation": read.one_of("activation_function", ACTIVATIONS, "relu"),
        "dropout": read.number("dropout", 0.1),
        "attention_dropout": read.number("attention_dropout", 0.0),
    }
    read.finish()
    return DetrConfig(**values)


def _stem_from_hf(read: Reader) -> dict[str, Any]:
    """The fields of a stem, up to the last stage that the encoder reads."""
    widths, depths = (tuple(read.config.get(k) or ()) for k in ("hidden_sizes", "depths"))
    names = [f"stage{i}" for i in range(1, len(widths) + 1)]
    (*_, last) = read.config.get("out_features") or names or [""]
    if last not in names:
        read.problems.append(f"out_features is {last!r}, known are {', '.join(names)}")
    stages = names.index(last) + 1 if last in names else 0
    return {
        "stem": read.size("embedding_size"),
        "widths": widths[:stages],
        "depths": depths[:stages],
        "block": read.one_of("layer_type", BLOCKS, "bottleneck"),
        "first": bool(read.config.get("downsample_in_first_stage")),
        "early": bool(read.config.get("downsample_in_bottleneck")),
    }


_STEM = r"^backbone\.(?:conv_encoder\.)?model\."

FAMILY = Family(
    name="detr",
    tasks=("object-detection",),
    config=DetrConfig,
    build=Detr,
    inputs=picture_inputs,
    outputs=_outputs,
    from_hf=FromHF(
        model_types=("detr",),
        config=_config_from_hf,
        weights=(
            Rename(r"^model\.", ""),
            Drop(r"\.num_batches_tracked$"),
            Rename(_STEM + r"embedder\.embedder\.", "stem.stem."),
            Rename(_STEM + r"encoder\.stages\.(\d+)\.layers\.(\d+)\.", r"stem.stages.\1.\2."),
            Rename(r"^(stem\.stages\.\d+\.\d+)\.layer\.", r"\1.parts."),
            Rename(r"^(stem\..*)\.normalization\.", r"\1.norm."),
            Rename(r"^input_projection\.", "project."),
            Rename(r"^query_position_embeddings\.weight$", "queries"),
            Rename(r"^encoder\.layers\.", "layers."),
            Rename(r"^decoder\.layers\.", "decoder_layers."),
            Rename(r"^decoder\.layernorm\.", "norm."),
            Rename(r"\.self_attn_layer_norm\.", ".attention_norm."),
            Rename(r"\.encoder_attn_layer_norm\.", ".cross_norm."),
            Rename(r"\.final_layer_norm\.", ".feed_forward_norm."),
            Rename(r"\.self_attn\.", ".attention."),
            Rename(r"\.encoder_attn\.", ".cross."),
            Rename(r"\.q_proj\.", ".q."),
            Rename(r"\.k_proj\.", ".key."),
            Rename(r"\.v_proj\.", ".value."),
            Rename(r"\.(?:o_proj|out_proj)\.", ".out."),
            Rename(r"(?:\.mlp)?\.fc1\.", ".feed_forward.up."),
            Rename(r"(?:\.mlp)?\.fc2\.", ".feed_forward.down."),
            Rename(r"^class_labels_classifier\.", "classifier."),
            Rename(r"^bbox_predictor\.layers\.", "boxes."),
            Transpose(r"(\.(q|key|value|out|up|down)|^classifier|^boxes\.\d)\.weight$"),
        ),
        # A stem's later stages, which the encoder does not read, are in its file too.
        elsewhere=r"^classifier\.|^stem\.stages\.",
    ),
)
