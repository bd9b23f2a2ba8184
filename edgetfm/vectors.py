"""The vectors of a bundle: what any device can replay, and the rungs that replaying gives."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from zipfile import BadZipFile

import numpy as np

from edgetfm.bundle import Bundle, BundleWriter
from edgetfm.errors import BundleError
from edgetfm.ledger import Rung, rung
from edgetfm.proof import DEVICE_BOUNDS, Subject, device_rung
from edgetfm.signature import Array, Feeds

VECTOR_FILES = ("vectors.npz", "vectors.json")
"""Where a bundle keeps its vectors."""

VECTOR_BYTES = 1_000_000
"""About what vectors.npz may hold before compression: it ships with every bundle."""


def write_vectors(
    writer: BundleWriter,
    cases: Sequence[Feeds],
    truth: Sequence[Feeds],
    shipped: Sequence[Feeds],
    precision: str,
) -> None:
    """Write vectors.npz and vectors.json: the smallest cases that fit in VECTOR_BYTES.

    Two are kept however large they are: the smallest is one row, which sees no batch.
    """
    sizes = [sum(a.nbytes for part in (f, *([t] * 2)) for a in part.values())
             for f, t in zip(cases, truth, strict=True)]  # fmt: skip
    arrays: dict[str, Array] = {}
    listed: list[dict[str, Any]] = []
    total = 0
    for i in sorted(range(len(cases)), key=lambda i: sizes[i]):
        total += sizes[i]
        if len(listed) >= 2 and total > VECTOR_BYTES:
            break
        parts = {"inputs": cases[i], "pytorch": truth[i], "shipped": shipped[i]}
        for part, values in parts.items():
            for name, array in values.items():
                arrays[f"{len(listed)}.{part}.{name}"] = array
        shapes = {name: list(a.shape) for name, a in cases[i].items()}
        listed.append({"inputs": shapes, "outputs": sorted(truth[i])})
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    writer.write("vectors.npz", buffer.getvalue())
    index = {"schema": 1, "variant": precision, "cases": listed}
    writer.write("vectors.json", json.dumps(index, indent=2) + "\n")


@dataclass(frozen=True)
class Vectors:
    """The content of vectors.npz."""

    variant: str
    cases: list[Feeds]
    pytorch: list[Feeds]
    shipped: list[Feeds]


def read_vectors(bundle: Bundle) -> Vectors:
    """The vectors of a bundle; a BundleError if it has none or they are malformed."""
    try:
        index = json.loads(bundle.path("vectors.json").read_text(encoding="utf-8"))
        # Opened here: numpy leaves a file that is no archive open.
        with bundle.path("vectors.npz").open("rb") as f, np.load(f, allow_pickle=False) as archive:
            parts: dict[str, list[Feeds]] = {"inputs": [], "pytorch": [], "shipped": []}
            for i, _ in enumerate(index["cases"]):
                for part, collected in parts.items():
                    prefix = f"{i}.{part}."
                    names = [n for n in archive.files if n.startswith(prefix)]
                    collected.append({n.removeprefix(prefix): archive[n] for n in names})
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise BundleError(f"the vectors of {bundle.root} cannot be read: {error}") from error
    return Vectors(str(index["variant"]), parts["inputs"], parts["pytorch"], parts["shipped"])


def replay_rungs(
    subject: Subject,
    precision: str,
    name: str,
    answers: Sequence[Feeds],
    vectors: Vectors,
    budget: str,
) -> list[Rung]:
    """One variant's answers to the vectors, against PyTorch's and, if it shipped, its own.

    The budget was judged on more data than the vectors are. Where the answers that shipped are
    outside it on these few, so that one of fifteen pictures decides, no device can do better:
    it is then held to those answers alone, and the ledger says so.
    """

    def against_oracle(got: Sequence[Feeds], note: str = "") -> Rung:
        comparison = subject.compare(got, vectors.pytorch, vectors.cases)
        if precision == "fp32":
            return rung(name, subject.oracle, comparison, bound=DEVICE_BOUNDS["fp32"])
        bound, on = "" if note else budget, subject.judged_output
        return rung(name, subject.oracle, comparison, bound=bound, bound_on=on, note=note)

    if precision != vectors.variant:
        return [against_oracle(answers)]
    missed = against_oracle(vectors.shipped).missed
    note = f"as shipped, these few cases miss the budget: {'; '.join(missed)}" if missed else ""
    against_shipped = subject.compare(answers, vectors.shipped, vectors.cases)
    own = subject.compare(vectors.shipped, vectors.pytorch, vectors.cases).measures()
    return [
        against_oracle(answers, note),
        device_rung(precision, name, "the exporting CPU", against_shipped, own, subject.oracle),
    ]
