"""The layers of detectors and segmenters: stems, places in a picture, attention that knows them."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers.models.detr.modeling_detr import DetrSinePositionEmbedding

from edgetfm.layers.fold import fold
from edgetfm.layers.image_positions import grid_positions, nearness
from edgetfm.layers.placed_attention import PlacedAttention
from edgetfm.layers.residual_stem import BLOCKS, BatchNorm, ResidualStem


def stem(kind: str) -> ResidualStem:
    torch.manual_seed(0)
    made = ResidualStem(3, 8, (8, 16), (2, 1), kind, first=True)
    for _ in range(3):  # norms that have seen something
        made.train()(torch.randn(4, 3, 40, 56) * 2 + 1)
    return made.eval()


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_stem_without_its_norms_answers_the_same(kind: str) -> None:
    whole = stem(kind)
    folded = copy.deepcopy(whole)
    fold(folded)
    assert not any(isinstance(part, BatchNorm) for part in folded.modules())
    x = torch.randn(2, 3, 40, 56)
    wanted = whole(x)
    assert wanted.shape == (2, 16, 3, 4)
    torch.testing.assert_close(folded(x), wanted, rtol=1e-4, atol=1e-5)
    fold(folded)
    torch.testing.assert_close(folded(x), wanted, rtol=1e-4, atol=1e-5)


def test_the_norm_of_a_batch_is_torchs_own() -> None:
    torch.manual_seed(0)
    ours, theirs = BatchNorm(6), torch.nn.BatchNorm2d(6)
    for _ in range(2):
        x = torch.randn(4, 6, 5, 3) * 3 + 2
        torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 7), (20, 13)])
def test_places_are_those_of_transformers(rows: int, columns: int) -> None:
    like = torch.zeros(1, 32, rows, columns)
    theirs = DetrSinePositionEmbedding(16, normalize=True)
    wanted = theirs(like.shape, like.device, like.dtype)[0].flatten(1).t()
    torch.testing.assert_close(
        grid_positions(rows, columns, 32, like), wanted, rtol=1e-5, atol=1e-5
    )


def test_what_is_nearest_to_a_point_counts_most() -> None:
    points = torch.tensor([[0.9, 0.1], [0.1, 0.9]])  # right above, left below
    narrow, flat = (
        nearness(points, torch.tensor(reach).expand(2, 2), 4, 5) for reach in ([0.1], [0.5, 0.1])
    )
    assert narrow.shape == (2, 20)
    assert narrow.argmax(-1).tolist() == flat.argmax(-1).tolist() == [4, 15]
    assert (narrow <= flat).all()
    assert (flat <= 0).all()
    rows, columns = (flat.reshape(2, 4, 5)[0].diff(dim=side).abs().amax() for side in (0, 1))
    assert rows > 5 * columns, "it reaches farther across than down"


def test_attention_knows_where_and_mixes_what() -> None:
    """It is torch's attention with places added to queries and keys."""
    torch.manual_seed(0)
    ours = PlacedAttention(24, 3)
    x, other = torch.randn(2, 5, 24), torch.randn(2, 7, 24)
    places, other_places = torch.randn(5, 24), torch.randn(7, 24)
    query, key, value = (
        part.reshape(2, -1, 3, 8).transpose(1, 2)
        for part in (ours.q(x + places), ours.key(other + other_places), ours.value(other))
    )
    wanted = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(
        ours(x, places, other, other_places),
        ours.out(wanted.transpose(1, 2).reshape(2, 5, 24)),
        rtol=1e-5,
        atol=1e-6,
    )
    torch.testing.assert_close(ours(x, places), ours(x, places, x, places))
