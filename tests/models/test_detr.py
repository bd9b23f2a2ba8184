"""DETR is transformers' own with copied weights; with a grid its queries start from points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgetfm.errors import NotHonoured, SourceError
from edgetfm.layers.image_positions import grid
from edgetfm.layers.linear import Linear
from edgetfm.models.detr import FAMILY, Detr, DetrConfig
from edgetfm.sources import open_source

LIMIT = 1e-5
HF: dict[str, Any] = {
    "model_type": "detr",
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 48,
    "num_queries": 12,
    "num_channels": 3,
    "use_timm_backbone": False,
    "backbone_config": {
        "model_type": "resnet",
        "embedding_size": 8,
        "hidden_sizes": [8, 16, 24, 32],
        "depths": [1, 2, 1, 1],
        "layer_type": "basic",
        "out_features": ["stage4"],
    },
}
OWN = DetrConfig(
    queries=9,
    width=32,
    layers=1,
    decoder_layers=2,
    heads=4,
    decoder_heads=4,
    inner=32,
    decoder_inner=32,
    stem=8,
    widths=(8, 16),
    depths=(1, 1),
    labels=3,
    anchors="grid",
)


def saved(folder: Path, **stem: Any) -> Any:
    """transformers' module with random weights and norms that do something, written to a folder."""
    import transformers

    torch.manual_seed(0)
    config = {k: v for k, v in HF.items() if k != "model_type"}
    config["backbone_config"] = HF["backbone_config"] | stem
    module = transformers.DetrForObjectDetection(transformers.DetrConfig(**config)).eval()
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if "normalization" in name:
                tensor.uniform_(0.5, 1.5)
            elif tensor.ndim > 1:
                tensor.normal_(std=0.3)
    module.save_pretrained(folder)
    return module


@pytest.mark.parametrize(
    "stem",
    [
        {},
        {"layer_type": "bottleneck", "downsample_in_bottleneck": True},
        {"downsample_in_first_stage": True, "out_features": ["stage3"]},
    ],
    ids=["basic", "bottleneck", "three stages"],
)
def test_a_detr_answers_as_transformers_does(stem: dict[str, Any], tmp_path: Path) -> None:
    theirs = saved(tmp_path, **stem)
    source = open_source(tmp_path)
    assert (source.route, source.family.name) == ("native", "detr")
    assert len(source.labels) == 2
    # Random bottlenecks in float64: their float32 is 8e-6 from it in transformers itself.
    dtype = torch.float64 if "layer_type" in stem else torch.float32
    module, theirs = source.build_module().to(dtype), theirs.to(dtype)
    assert not any("norm.running" in name for name in module.state_dict()), "folded"
    for shape in ((1, 3, 64, 64), (2, 3, 70, 101)):
        pixels = torch.randn(shape, dtype=dtype)
        with torch.no_grad():
            got, wanted = module(pixels), theirs(pixel_values=pixels)
        for name in ("logits", "pred_boxes"):
            far = (got[name] - wanted[name]).abs().max() / wanted[name].abs().max()
            assert far <= LIMIT, (name, far)


@pytest.mark.parametrize(
    ("changed", "said", "kind"),
    [
        ({"backbone_config": {"model_type": "timm_backbone"}}, "timm_backbone", NotHonoured),
        ({"position_embedding_type": "learned"}, "position_embedding_type", NotHonoured),
        ({"dilation": True}, "dilation", NotHonoured),
        ({"activation_function": "mish"}, "mish", NotHonoured),
        ({"num_queries": 0}, "num_queries", SourceError),
        ({"encoder_attention_heads": 5}, "does not divide", SourceError),
        (
            {"backbone_config": HF["backbone_config"] | {"out_features": ["stem"]}},
            "stem",
            SourceError,
        ),
        ({"backbone_config": HF["backbone_config"] | {"depths": [1]}}, "4 numbers", SourceError),
    ],
)
def test_what_it_does_not_honour_is_refused_by_name(
    changed: dict[str, Any], said: str, kind: type[SourceError]
) -> None:
    assert FAMILY.from_hf is not None
    assert FAMILY.from_hf.config(HF, FAMILY.tasks[0])
    with pytest.raises(kind, match=said):
        FAMILY.from_hf.config(HF | changed, FAMILY.tasks[0])


@pytest.mark.parametrize("count", [1, 2, 7, 25, 100])
def test_a_grid_covers_a_picture_evenly(count: int) -> None:
    points = grid(count)
    assert points.shape == (count, 2)
    assert len(set(map(tuple, points.tolist()))) == count
    np.testing.assert_allclose(points.mean(0), 0.5, atol=0.15)
    assert 0 < points.min() <= points.max() < 1


def test_queries_of_a_grid_find_their_boxes_around_its_points() -> None:
    torch.manual_seed(0)
    boxes = FAMILY.build(OWN, FAMILY.tasks[0]).eval()(torch.randn(2, 3, 48, 80))["pred_boxes"]
    assert boxes.shape == (2, 9, 4)
    centres = boxes[..., :2].detach()
    np.testing.assert_allclose(centres, grid(9).expand(2, -1, -1), atol=0.1)


def test_a_layer_begins_with_the_boxes_of_the_one_before() -> None:
    """As begun every box is its anchor's; a head that is moved aside looks there."""
    torch.manual_seed(0)
    module, pixels = Detr(OWN, FAMILY.tasks[0]).eval(), torch.randn(2, 3, 48, 48)
    module.begin()
    last = module.boxes[-1]
    assert isinstance(last, Linear)
    assert last.bias is not None
    with torch.no_grad():
        boxes = module(pixels)["pred_boxes"]
        torch.testing.assert_close(boxes[0, :, :2], grid(9))
        last.bias.add_(torch.tensor([0.1, 0.0, 0.0, 0.0]))
        moved = torch.logit(module(pixels)["pred_boxes"]) - torch.logit(boxes)
        torch.testing.assert_close(moved, torch.tensor([0.2, 0.0, 0.0, 0.0]).expand(2, 9, 4))


def test_every_layer_of_the_decoder_answers_in_training_alone() -> None:
    torch.manual_seed(0)
    module, pixels = FAMILY.build(OWN, FAMILY.tasks[0]), torch.randn(2, 3, 48, 48)
    answer = module.train()(pixels)
    assert answer["earlier_logits"].shape == (1, 2, 9, 4)
    assert answer["earlier_boxes"].shape == (1, 2, 9, 4)
    assert answer["place_logits"].shape == answer["place_boxes"].shape == (2, 36, 4)
    sum(value.square().sum() for value in answer.values()).backward()
    assert all(p.grad is not None for p in module.parameters())
    assert set(module.eval()(pixels)) == {"logits", "pred_boxes"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"width": 30}, "multiples of 4"),
        ({"depths": (1,)}, "widths has 2 numbers, but depths has 1"),
        ({"widths": ()}, r"widths is \(\), expected at least 1"),
        ({"widths": (6, 8), "block": "bottleneck"}, "multiples of 4"),
        ({"anchors": "points"}, "known are learned, grid"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(SourceError, match=said):
        DetrConfig(**{**OWN.__dict__, **changed})
