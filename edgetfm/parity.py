"""How two answers are compared: the measures of how far one is from the other."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edgetfm.errors import ParityError
from edgetfm.signature import Array
from edgetfm.task import Output

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measures:
    """How far one output is from what it should be, over `rows` vectors.

    max_abs, mean_abs: of the difference. max_error: max_abs over max(1, max|wanted|).
    cosine, worst_cosine: mean and smallest over rows. agreement: share of rows whose largest
    entry is the same; where a row is a single score, share of scores that differ by at most 5 %
    of the wanted one, of 1 if that is smaller. kl: mean Kullback-Leibler divergence in nats of
    the softmax of the rows, from wanted to got. The last two are None for outputs that are not
    logits, kl for single scores. iou: of boxes, mean share of what two of them cover that both
    do. relative: of a map, mean_abs over the mean of |wanted|. perplexity: by what
    share that of the tokens that follow in the texts is higher, 0.01 is 1 %. What was compared
    with a number that is not finite is NaN.
    """

    rows: int
    max_abs: float
    mean_abs: float
    max_error: float
    cosine: float
    worst_cosine: float
    agreement: float | None = None
    kl: float | None = None
    iou: float | None = None
    relative: float | None = None
    perplexity: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The form it has in parity.json."""
        held = {k: v for k, v in asdict(self).items() if v is not None}
        return {k: v if np.isfinite(v) else str(v) for k, v in held.items()}  # JSON has no NaN


HIGHER_IS_BETTER = {
    "cosine": True,
    "worst_cosine": True,
    "agreement": True,
    "iou": True,
    "max_abs": False,
    "mean_abs": False,
    "max_error": False,
    "kl": False,
    "perplexity": False,
    "relative": False,
}

MEASURED: dict[str, tuple[str, ...]] = {
    "agreement": ("logits", "span"),
    "kl": ("logits", "span"),
    "perplexity": ("logits",),
    "iou": ("boxes",),
    "relative": ("map",),
}
"""Measure -> the kinds of outputs that have it; those not here all have."""


class Comparison:
    """Collects differences over batches of any shapes, then says how large they are."""

    def __init__(self, outputs: Iterable[Output]) -> None:
        self.outputs = tuple(outputs)
        self._parts: dict[str, list[_Part]] = {o.name: [] for o in self.outputs}

    def add(
        self,
        got: Mapping[str, Array],
        wanted: Mapping[str, Array],
        mask: Array | None = None,
        tokens: Array | None = None,
    ) -> Self:
        """Compare one batch. `mask` [batch, sequence] marks the tokens that count, 1 or 0.

        tokens: the ids of the texts, [batch, sequence], for outputs that are about the next one.
        ParityError if a side lacks an output, or gives one of another shape.
        """
        for output in self.outputs:
            for who, side in (("the answer", got), ("the reference", wanted)):
                if output.name not in side:
                    raise ParityError(f"{who} has no {output.name}; it has {', '.join(side)}")
            shapes = [np.shape(side[output.name]) for side in (got, wanted)]
            if shapes[0] != shapes[1]:
                raise ParityError(f"{output.name} has shape {shapes[0]}, expected {shapes[1]}")
            real = _shortened(output, mask, shapes[0])
            one, two = (_rows(output, side[output.name], real) for side in (got, wanted))
            rows = max(1, _CHUNK // max(1, one.shape[-1]))
            following = _following(output, tokens, mask)
            self._parts[output.name] += _in_chunks(
                [
                    (one[i : i + rows], two[i : i + rows], output.kind, following[i : i + rows])
                    for i in range(0, len(one), rows)
                ]
            )
        return self

    def measures(self) -> dict[str, Measures]:
        """The measures of each output over everything added."""
        return {name: _merge(parts) for name, parts in self._parts.items() if parts}


@dataclass(frozen=True)
class _Part:
    max_abs: float
    sum_abs: float
    count: int
    largest: float
    cosine: Floats
    agree: Floats | None
    kl: Floats | None
    iou: Floats | None
    sum_wanted: float | None
    surprise: Floats | None


_CHUNK = 1 << 18
"""Elements compared at once: logits over a vocabulary are large in float64, and what stays in a
core's own cache is compared in two thirds of the time."""


_AT_ONCE = min(4, os.cpu_count() or 1)


def _in_chunks(chunks: Sequence[tuple[Array, Array, str, Array]]) -> list[_Part]:
    """`_compare_rows` of each; of several some at once: arithmetic on arrays holds no lock."""
    if len(chunks) < 2:
        return [_compare_rows(*chunk) for chunk in chunks]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda chunk: _compare_rows(*chunk), chunks))


def _shortened(output: Output, mask: Array | None, shape: tuple[int, ...]) -> Array | None:
    """The mask of an output's own positions, where convolutions made them fewer."""
    if mask is None or not output.steps:
        return mask
    lengths = np.array([output.length(int(taken)) for taken in mask.sum(1)])
    return np.arange(shape[1]) < lengths[:, None]


def _rows(output: Output, array: Array, mask: Array | None) -> Array:
    """The vectors to compare, [rows, width]: padding left out, a span one row a text."""
    values = np.asarray(array)
    if output.kind == "map":
        return values.reshape(len(values), -1)
    values = np.moveaxis(values, output.class_axis, -1)
    if output.kind == "span" and mask is not None:
        return np.where(mask.astype(bool), values, _MASKED)
    if output.per_token and mask is not None and not mask.all():
        return np.asarray(values[mask.astype(bool)])
    return values.reshape(-1, values.shape[-1])


_MASKED = -1e4  # a finite stand-in for minus infinity: its exponential is 0, its difference too


def _following(output: Output, tokens: Array | None, mask: Array | None) -> Array:
    """The token after each that counts, -1 behind the last of a text; empty if nobody asks."""
    if not output.of_next or tokens is None or mask is None:
        return np.zeros(0, np.int64)
    real = mask.astype(bool)
    after = np.full(tokens.shape, -1, np.int64)
    after[:, :-1] = np.where(real[:, 1:], tokens[:, 1:], -1)
    return np.asarray(after[real])


def _compare_rows(got_rows: Array, wanted_rows: Array, kind: str, following: Array) -> _Part:
    same = (got_rows == wanted_rows).all(-1) & np.isfinite(wanted_rows).all(-1)
    if kind in ("logits", "map") and same.any():  # what is equal needs no arithmetic
        return _with_equal(got_rows, wanted_rows, kind, following, same)
    got, wanted = got_rows.astype(np.float64), wanted_rows.astype(np.float64)
    finite = np.isfinite(got).all() and np.isfinite(wanted).all()
    agree = kl = surprise = None
    if kind in ("logits", "span"):
        score = kind == "logits" and got.shape[-1] == 1
        agree = _agreement(got, wanted, score)
        if not score:
            kl, surprise = _divergence(got, wanted, following)
    count = got.size
    if kind == "span":  # padding is no part of the vectors
        real = wanted != _MASKED
        got, wanted, count = np.where(real, got, 0.0), np.where(real, wanted, 0.0), int(real.sum())
    difference = np.abs(got - wanted) if finite else np.full_like(got, np.nan)
    return _Part(
        max_abs=float(difference.max(initial=0.0)),
        sum_abs=float(difference.sum()),
        count=count,
        largest=float(np.abs(wanted).max(initial=0.0)),
        cosine=cosine(got, wanted),
        agree=agree,
        kl=kl,
        iou=_overlap(got, wanted) if kind == "boxes" else None,
        sum_wanted=float(np.abs(wanted).sum()) if kind == "map" else None,
        surprise=surprise,
    )


def _with_equal(
    got: Array, wanted: Array, kind: str, following: Array, same: NDArray[np.bool_]
) -> _Part:
    """The part of rows of which those of `same` are equal in both, and finite."""
    rest, first = ~same, bool(len(following))
    other = _compare_rows(got[rest], wanted[rest], kind, following[rest] if first else following)
    known = following >= 0

    def filled(value: float, among: Floats | None, of: NDArray[np.bool_]) -> Floats | None:
        if among is None:
            return None
        every = np.full(len(of), value)
        every[of] = among
        return every

    return _Part(
        max_abs=other.max_abs,
        sum_abs=other.sum_abs,
        count=got.size,
        largest=float(max(wanted.max(initial=0.0), -wanted.min(initial=0.0))),
        cosine=np.asarray(filled(1.0, other.cosine, rest)),
        agree=filled(1.0, other.agree, rest),
        kl=filled(0.0, other.kl, rest),
        iou=None,
        sum_wanted=float(np.abs(wanted).sum(dtype=np.float64)) if kind == "map" else None,
        surprise=filled(0.0, other.surprise, rest[known] if first else rest[:0]),
    )


def _divergence(got: Floats, wanted: Floats, following: Array) -> tuple[Floats, Floats]:
    """Kullback-Leibler divergence of each row, and by how much less likely what followed is."""
    with np.errstate(invalid="ignore", over="ignore"):
        apart = wanted - got
        above = wanted - wanted.max(-1, keepdims=True)
        np.exp(above, out=above)
        shares = above.sum(-1)
        mean = np.einsum("ij,ij->i", above, apart) / shares
        apart_all = np.log(shares) + wanted.max(-1) - _log_sum(got)
        known = np.flatnonzero(following >= 0)
        surprise = apart[known, following[known]] - apart_all[known]
        return np.maximum(mean - apart_all, 0.0), surprise


def _log_sum(logits: Floats) -> Floats:
    """The logarithm of the sum of exponentials of each row."""
    most = logits.max(-1, keepdims=True)
    above = logits - most
    np.exp(above, out=above)
    return np.asarray(np.log(above.sum(-1)) + most[:, 0])


def _overlap(one: Floats, other: Floats) -> Floats:
    """What both boxes of each pair cover over what any of them does, [rows].

    Boxes are [rows, 4]: the center, the width and the height. Two that cover nothing are one if
    they are equal.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        low = [np.maximum(a[:, :2] - a[:, 2:] / 2, -_FAR) for a in (one, other)]
        high = [np.minimum(a[:, :2] + a[:, 2:] / 2, _FAR) for a in (one, other)]
        both = np.clip(np.minimum(*high) - np.maximum(*low), 0.0, None).prod(-1)
        areas = [np.clip(h - w, 0.0, None).prod(-1) for w, h in zip(low, high, strict=True)]
        covered = areas[0] + areas[1] - both
        equal = (one == other).all(-1).astype(np.float64)
        share = both / np.where(covered > 0, covered, 1.0)
    finite = np.isfinite(one).all(-1) & np.isfinite(other).all(-1)
    return np.asarray(np.where(finite, np.where(covered > 0, share, equal), np.nan))


_FAR = 1e9


def _agreement(got: Floats, wanted: Floats, score: bool) -> Floats:
    """1 or 0 for each row; NaN, which no share survives, where a number is not finite."""
    if score:
        with np.errstate(invalid="ignore"):
            close = np.abs(got - wanted) <= _SCORE_TOLERANCE * np.maximum(np.abs(wanted), 1.0)
        same = close[..., 0]
    else:
        same = got.argmax(-1) == wanted.argmax(-1)
    finite = np.isfinite(got).all(-1) & np.isfinite(wanted).all(-1)
    return np.where(finite, same.astype(np.float64), np.nan)


_SCORE_TOLERANCE = 0.05


def cosine(one: Floats, other: Floats) -> Floats:
    """Cosine of each pair of rows, [rows]; 1 where both are zero, 0 where one is."""
    with np.errstate(invalid="ignore", over="ignore"):
        dot, *squares = (
            np.einsum("ij,ij->i", a, b) for a, b in ((one, other), (one, one), (other, other))
        )
        norms = np.sqrt(squares[0]) * np.sqrt(squares[1])
        both_zero = ~one.any(-1) & ~other.any(-1)
        safe = np.where(norms > 0, norms, 1.0)
        return np.asarray(np.where(both_zero, 1.0, dot / safe), dtype=np.float64)


def _merge(parts: list[_Part]) -> Measures:
    cosines = np.concatenate([p.cosine for p in parts])
    agreements = [p.agree for p in parts if p.agree is not None]
    divergences = [p.kl for p in parts if p.kl is not None]
    overlaps = [p.iou for p in parts if p.iou is not None]
    sums = [p.sum_wanted for p in parts if p.sum_wanted is not None]
    max_abs = float(np.max([p.max_abs for p in parts]))
    sum_abs = sum(p.sum_abs for p in parts)
    return Measures(
        rows=len(cosines),
        max_abs=max_abs,
        mean_abs=sum_abs / max(1, sum(p.count for p in parts)),
        max_error=max_abs / max(1.0, max(p.largest for p in parts)),
        cosine=float(cosines.mean()),
        worst_cosine=float(cosines.min()),
        agreement=float(np.concatenate(agreements).mean()) if agreements else None,
        kl=float(np.concatenate(divergences).mean()) if divergences else None,
        iou=float(np.concatenate(overlaps).mean()) if overlaps else None,
        relative=_share(sum_abs, sum(sums)) if sums else None,
        perplexity=_rise([p.surprise for p in parts if p.surprise is not None]),
    )


def _rise(surprises: list[Floats]) -> float | None:
    """By what share perplexity is higher; None if no token follows another."""
    count = sum(map(len, surprises))
    return float(np.expm1(np.concatenate(surprises).sum() / count)) if count else None


def _share(lost: float, whole: float) -> float:
    """lost / whole; of nothing, nothing is 0 lost and anything infinite."""
    return lost / whole if whole else 0.0 if lost == 0 else float("inf")
