"""Two bundles side by side: size, recipe, latency and answers, measured in one process."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgetfm.bundle import Bundle, open_bundle
from edgetfm.errors import InputError, listed
from edgetfm.parity import Measures
from edgetfm.progress import Progress, quiet
from edgetfm.proof import Subject, answers_of
from edgetfm.runtime.tuning import Timing, compare_latency
from edgetfm.signature import Feeds, TensorSpec
from edgetfm.vectors import read_vectors
from edgetfm.workflow.inspect import inspect_bundle

Place = str | os.PathLike[str]
"""A bundle's folder, or FOLDER@VARIANT."""


@dataclass(frozen=True)
class Side:
    """One variant of one bundle.

    name: as it was given. bytes: of its graph and weights. session: the onnxruntime settings that
    it is run with. latency: of one call, on 1 CPU thread. ledger: the content of parity.json, None
    if the bundle has none. calibration: the name, number and hash of what its bundle was
    calibrated on.
    """

    name: str
    variant: str
    bytes: int
    recipe: dict[str, Any]
    session: dict[str, Any]
    latency: Timing
    ledger: dict[str, Any] | None
    calibration: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The form `--json` prints; of the ledger what it said."""
        return {
            "name": self.name,
            "variant": self.variant,
            "bytes": self.bytes,
            "recipe": self.recipe,
            "session": self.session,
            "calibration": self.calibration,
            "latency_ms": round(self.latency.median * 1e3, 4),
            "proof": self.proof,
        }

    @property
    def proof(self) -> dict[str, Any] | None:
        """How many steps of the ledger are bound and how many hold, what is missed, and where."""
        if self.ledger is None:
            return None
        bound = [rung for rung in self.ledger["rungs"] if rung["bound"]]
        return {
            "held": sum(bool(rung["passed"]) for rung in bound),
            "of": len(bound),
            "missed": [
                f"{rung.get('name')}: {miss}" for rung in bound for miss in rung.get("missed", ())
            ],
            "cpu": self.ledger["machine"].get("cpu"),
        }


@dataclass(frozen=True)
class BundleComparison:
    """What `compare_bundles` found.

    recipe: field -> its value in A and in B, where they differ; None where a side has none.
    bytes: B's over A's. latency: B's over A's, the median of interleaved rounds and its spread.
    answers: output -> how far B is from A, on the inputs of A's vectors. cases: how many those are.
    """

    a: Side
    b: Side
    recipe: dict[str, tuple[Any, Any]]
    bytes: float
    latency: Timing
    answers: dict[str, Measures]
    cases: int

    def to_json(self) -> dict[str, Any]:
        """The form `--json` prints."""
        return {
            "a": self.a.to_json(),
            "b": self.b.to_json(),
            "recipe": {field: list(pair) for field, pair in self.recipe.items()},
            "bytes_ratio": round(self.bytes, 4),
            "latency_ratio": round(self.latency.median, 4),
            "latency_spread": round(self.latency.spread, 4),
            "answers": {name: m.to_json() for name, m in self.answers.items()},
            "cases": self.cases,
        }


def compare_bundles(a: Place, b: Place, progress: Progress = quiet) -> BundleComparison:
    """B beside A: how much smaller, how much faster, and how far its answers are from A's.

    Each is a bundle, or FOLDER@VARIANT for another than its default. Both answer the inputs of A's
    vectors on this machine's CPU; latency is that of the longest of them with one row, of a decoder
    that of its last token, in rounds that alternate. Raises BundleError for what is no whole
    bundle, InputError for a variant that is not there or where task, inputs, outputs or labels
    differ: their answers are no comparison then.
    """
    (first, one), (second, two) = _opened(a), _opened(b)
    if problems := _differences(first, second):
        raise InputError(f"{a} and {b} do not answer the same question:\n{listed(problems)}")
    cases = read_vectors(first).cases
    progress("asking both", 0, 0)
    graphs = {
        side: (bundle.graph(precision), bundle.manifest.session)
        for side, bundle, precision in (("a", first, one), ("b", second, two))
    }
    got = {
        side: answers_of(path, cases, settings=settings)
        for side, (path, settings) in graphs.items()
    }
    answers = Subject.of_bundle(first.manifest).compare(got["b"], got["a"], cases)
    timings = compare_latency(graphs, _longest(cases), progress=progress)
    left = _side(a, first, one, timings["a"])
    right = _side(b, second, two, timings["b"])
    return BundleComparison(
        left,
        right,
        recipe=_recipe_differences(left.recipe, right.recipe),
        bytes=right.bytes / max(1, left.bytes),
        latency=timings["b"].ratio_to(timings["a"]),
        answers=answers.measures(),
        cases=len(cases),
    )


def _opened(place: Place) -> tuple[Bundle, str]:
    """The bundle and the variant that a place names."""
    text = os.fspath(place)
    folder, at, variant = text.rpartition("@")
    if not at or Path(text).exists():
        folder, variant = text, ""
    bundle = open_bundle(folder)
    bundle.variant(variant or None)
    return bundle, variant or bundle.manifest.default


def _side(place: Place, bundle: Bundle, precision: str, latency: Timing) -> Side:
    return Side(
        name=os.fspath(place),
        variant=precision,
        bytes=bundle.variant_bytes(precision),
        recipe=dict(bundle.variant(precision).recipe),
        session=dict(bundle.manifest.session),
        latency=latency,
        ledger=inspect_bundle(bundle.root)["ledger"],
        calibration=dict(bundle.manifest.calibration),
    )


def _differences(first: Bundle, second: Bundle) -> list[str]:
    """Why the answers of two bundles cannot be compared; names of free axes are no reason."""
    one, two = first.manifest, second.manifest
    problems = []
    if one.task != two.task:
        problems.append(f"the first is for {one.task}, the second for {two.task}")
    if one.labels != two.labels:
        shown = [", ".join(labels[:4]) or "none" for labels in (one.labels, two.labels)]
        problems.append(f"the labels differ: {shown[0]} and {shown[1]}")
    for way in ("inputs", "outputs"):
        have, other = ({t.name: t for t in getattr(m.signature, way)} for m in (one, two))
        problems += [
            _difference(way[:-1], name, have.get(name), other.get(name))
            for name in have | other
            if _form(have.get(name)) != _form(other.get(name))
        ]
    return problems


def _difference(way: str, name: str, one: TensorSpec | None, two: TensorSpec | None) -> str:
    if one is None or two is None:
        return f"only the {'second' if one is None else 'first'} has an {way} '{name}'"
    return f"{way} '{name}' is {one} in the first and {two} in the second"


def _form(tensor: TensorSpec | None) -> Any:
    if tensor is None:
        return None
    return tensor.dtype, [axis if isinstance(axis, int) else "free" for axis in tensor.shape]


def _longest(cases: Sequence[Feeds]) -> Feeds:
    """The longest case with one row, the longest of all where each has more."""
    single = [feeds for feeds in cases if next(iter(feeds.values())).shape[0] == 1]
    return max(single or cases, key=lambda feeds: next(iter(feeds.values())).size)


def _recipe_differences(
    one: Mapping[str, Any], two: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """Each field that differs; one that is empty on a side and absent on the other does not."""
    return {
        field: (one.get(field), two.get(field))
        for field in dict.fromkeys([*one, *two])
        if (one.get(field) or None) != (two.get(field) or None)
    }
