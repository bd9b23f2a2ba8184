"""Modules as users write them: every function here is named by a test."""

from __future__ import annotations

import warnings
from collections import namedtuple
from typing import Any

import torch
from torch import Tensor, nn

from edgetfm.signature import Signature, TensorSpec

Pair = namedtuple("Pair", ("first", "second"))


class Tagger(nn.Module):
    """Token ids to a score a token and a score a text; 24 positions."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(60, 32), nn.Embedding(24, 32)
        self.inner, self.tags, self.text = nn.Linear(32, 64), nn.Linear(64, 5), nn.Linear(64, 3)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor | None]:
        x = self.words(input_ids) + self.places(torch.arange(input_ids.shape[1]))
        x = torch.tanh(self.inner(x)) * attention_mask[:, :, None]
        mean = x.sum(1) / attention_mask.sum(1, keepdim=True)
        return {"tags": self.tags(x), "logits": self.text(mean), "cache": None}


def ids(rows: int, length: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    found = torch.randint(0, 60, (rows, length), generator=generator)
    mask = torch.ones_like(found)
    mask[1:2, length // 2 :] = 0
    return {"input_ids": found, "attention_mask": mask}


def tagger() -> tuple[nn.Module, dict[str, Tensor]]:
    return Tagger(), ids(40, 9)


def tagger_alone() -> nn.Module:
    return Tagger()


def inputs() -> dict[str, Tensor]:
    return ids(3, 7)


def signature() -> Signature:
    axes = ("batch", 8)
    return Signature(
        (TensorSpec("input_ids", "int64", axes), TensorSpec("attention_mask", "int64", axes)), ()
    )


class Picture(nn.Module):
    """Pictures of any size to four numbers, in half precision."""

    def __init__(self) -> None:
        super().__init__()
        self.convolve, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 4)

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.head(torch.relu(self.convolve(pixel_values)).mean((2, 3)))


def picture() -> tuple[nn.Module, Tensor]:
    return Picture().half(), torch.rand(1, 3, 16, 16)


class Attend(nn.Module):
    """Two inputs of lengths of their own; what goes in comes out as well."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(4, 4)

    def forward(self, x: Tensor, y: Tensor, scale: float = 2.0) -> Pair:
        return Pair(self.project(x) @ y.transpose(1, 2) * scale, x)


def attend() -> tuple[nn.Module, tuple[Tensor, Tensor]]:
    return Attend(), (torch.randn(2, 5, 4), torch.randn(2, 6, 4))


class OfOne(nn.Module):
    """Takes a single row."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.layer(x.view(1, 8))
        return y, y.argmax(-1)


def of_one() -> tuple[nn.Module, Tensor]:
    return OfOne(), torch.randn(1, 8)


def of_one_called_free() -> Any:
    module = OfOne()
    module.signature = Signature((TensorSpec("x", "float32", ("batch", 8)),), ())
    return module, torch.randn(1, 8)


# --- what cannot be -----------------------------------------------------------------------------


class Lambda(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def of(function: Any) -> tuple[nn.Module, Tensor]:
    return Lambda(function), torch.ones(2, 3)


class Loose(nn.Module):
    def forward(self, *x: Tensor) -> Tensor:
        return x[0]


def nothing() -> None:
    return None


def loose() -> tuple[nn.Module, Tensor]:
    return Loose(), torch.ones(2, 3)


def failing() -> nn.Module:
    raise RuntimeError("the weights are elsewhere")


def text_out() -> tuple[nn.Module, Tensor]:
    return of(lambda x: {"x": x, "name": "x"})


def integers_out() -> tuple[nn.Module, Tensor]:
    return of(lambda x: x.argmax(-1))


def branching() -> tuple[nn.Module, Tensor]:
    return of(lambda x: x * 2 if x.sum() > 0 else x)


def drawing() -> tuple[nn.Module, Tensor]:
    return of(lambda x: x + torch.rand(3))


def sized_by_values() -> Any:
    return of(lambda x: torch.nonzero(x))


def sparse() -> Any:
    return nn.Linear(3, 2), torch.ones(2, 3).to_sparse()


class Unreadable(nn.Module):
    """Its signature and forward cannot be asked for."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.raising = name

    def __getattribute__(self, name: str) -> Any:
        if name in ("signature", "forward") and name == super().__getattribute__("raising"):
            raise RuntimeError("not now")
        return super().__getattribute__(name)

    def forward(self, x: Tensor) -> Tensor:
        return x


def without_signature() -> Any:
    return Unreadable("signature"), torch.ones(2, 3)


def without_forward() -> Any:
    return Unreadable("forward"), torch.ones(2, 3)


def scripted() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls it old, and people still have such files
        return torch.jit.trace(nn.Linear(3, 2), torch.ones(2, 3)), torch.ones(2, 3)


def shapes_apart() -> tuple[nn.Module, Tensor]:
    return nn.Linear(4, 4), torch.ones(2, 3)


def flagged() -> Any:
    return Attend(), {"x": torch.randn(2, 5, 4), "y": torch.randn(2, 6, 4), "scale": 3.0}


def misnamed() -> Any:
    return Attend(), {"x": torch.randn(2, 5, 4), "z": torch.randn(2, 6, 4)}


_calls = 0


def other_each_time() -> Any:
    global _calls
    _calls += 1
    module = nn.Linear(3, 2)
    nn.init.constant_(module.weight, _calls)
    return module, torch.ones(2, 3)
