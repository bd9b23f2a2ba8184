"""The vectors of a bundle: what any device can replay, and the rungs that replaying gives."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zipfile import ZipFile

import numpy as np

from edgetfm.bundle import Bundle, BundleWriter
from edgetfm.errors import BundleError, in_short
from edgetfm.ledger import FEW_MISS, Rung, rung
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
    *,
    subject: Subject | None = None,
    exact: bool = True,
) -> None:
    """Write vectors.npz and vectors.json: the smallest cases that fit in VECTOR_BYTES.

    Two are kept however large they are: the smallest is one row, which sees no batch. What
    padding answers is zero in them, for nobody can use it. exact: False keeps the first twelve
    bits of the oracle's floats: a variant is held to a budget of them, and noise takes space.
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
        # An oracle that is our own module answers its cache too, which no graph is asked for.
        answers = [{n: truth[i][n] for n in shipped[i]}, shipped[i]]
        if subject is not None:
            answers = _without_padding(subject, cases[i], answers)
        oracle = answers[0] if exact else {n: _rounded(a) for n, a in answers[0].items()}
        parts = {"inputs": cases[i], "pytorch": oracle, "shipped": answers[1]}
        for part, values in parts.items():
            for name, array in values.items():
                arrays[f"{len(listed)}.{part}.{name}"] = array
        shapes = {name: list(a.shape) for name, a in cases[i].items()}
        listed.append({"inputs": shapes, "outputs": sorted(shipped[i])})
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    writer.write("vectors.npz", buffer.getvalue())
    index = {"schema": 1, "variant": precision, "cases": listed}
    writer.write("vectors.json", json.dumps(index, indent=2) + "\n")


def _without_padding(subject: Subject, feeds: Feeds, answers: Sequence[Feeds]) -> list[Feeds]:
    """The same answers, those that belong to a token each with zeros where the mask is 0."""
    mask, _ = subject.of_tokens(feeds)
    of_tokens = {o.name for o in subject.task.outputs if o.per_token and not o.steps}
    return [
        {
            name: np.where(mask[..., None] != 0, array, array.dtype.type(0))
            if mask is not None and name in of_tokens and array.shape[:2] == mask.shape
            else array
            for name, array in answer.items()
        }
        for answer in answers
    ]


def _rounded(array: Array) -> Array:
    """float32 to twelve bits, to nearest: an error of 1/4096 of a value at most."""
    if array.dtype != np.float32:
        return array
    bits = np.ascontiguousarray(array).view(np.uint32)
    rounded = ((bits + np.uint32(1 << 11)) & np.uint32(0xFFFFF000)).view(np.float32)
    return np.where(np.isfinite(array) & np.isfinite(rounded), rounded, array)


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
        listed = _listed(index, bundle.manifest.precisions)
        # Opened here: numpy leaves a file that is no archive open, and would unpickle others.
        with bundle.path("vectors.npz").open("rb") as f, ZipFile(f) as archive:
            held = archive.namelist()
            cases = [_case(archive, held, i, case) for i, case in enumerate(listed)]
    except BundleError:
        raise
    except OSError as error:
        raise BundleError(f"the vectors of {bundle.root} cannot be read: {error}") from error
    except Exception as error:  # json's, zip's and numpy's headers' share no base class
        said = "" if "pickle" in str(error) else f": {in_short(error)}"
        raise BundleError(f"the vectors of {bundle.root} cannot be read{said}") from error
    return Vectors(index["variant"], *(list(part) for part in zip(*cases, strict=True)))


def _listed(index: Any, variants: Sequence[str]) -> list[dict[str, Any]]:
    """The cases of vectors.json, as `write_vectors` writes them; a ValueError says what is not."""
    if not isinstance(index, dict) or index.get("schema") != 1:
        raise ValueError("vectors.json has not the schema 1")
    if index.get("variant") not in variants:
        raise ValueError(f"the variant {index.get('variant')!r:.60} is none of the bundle's")
    cases = index.get("cases")
    if not isinstance(cases, list) or not cases or not all(isinstance(c, dict) for c in cases):
        raise ValueError("vectors.json lists no cases")
    return cases


def _case(
    archive: ZipFile, held: Sequence[str], number: int, listed: Mapping[str, Any]
) -> tuple[Feeds, Feeds, Feeds]:
    """Inputs, the oracle's answers and those that shipped, of the names that are listed."""
    parts = []
    for part, of in (("inputs", "inputs"), ("pytorch", "outputs"), ("shipped", "outputs")):
        prefix = f"{number}.{part}."
        found = (n.removeprefix(prefix) for n in held if n.startswith(prefix))
        names = [name.removesuffix(".npy") for name in found]
        missing = {*listed[of]} - {*names}
        if missing or not names:
            raise ValueError(f"case {number} lacks the {part} {', '.join(missing) or 'at all'}")
        parts.append({name: _array(archive, f"{prefix}{name}.npy") for name in names})
    inputs, oracle, shipped = parts
    return inputs, oracle, shipped


def _array(archive: ZipFile, name: str) -> Array:
    """An array of numbers; no header makes it larger than what is there."""
    with archive.open(name) as file:
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} holds no numbers but {array.dtype}")
    return array


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
    it is then held to those answers alone, and the ledger says so. BundleError where the oracle's
    answers are no finite numbers: nothing can be held against them.
    """
    _check_oracle(subject, vectors)

    def against_oracle(got: Sequence[Feeds], note: str = "") -> Rung:
        comparison = subject.compare(got, vectors.pytorch, vectors.cases)
        if precision == "fp32":
            return rung(name, subject.oracle, comparison, bound=DEVICE_BOUNDS["fp32"])
        bound, on = "" if note else budget, subject.judged_output
        return rung(name, subject.oracle, comparison, bound=bound, bound_on=on, note=note)

    if precision != vectors.variant:
        return [against_oracle(answers)]
    missed = against_oracle(vectors.shipped).missed
    note = f"{FEW_MISS}, which was judged on more: {'; '.join(missed)}" if missed else ""
    against_shipped = subject.compare(answers, vectors.shipped, vectors.cases)
    own = subject.compare(vectors.shipped, vectors.pytorch, vectors.cases).measures()
    return [
        against_oracle(answers, note),
        device_rung(precision, name, "the exporting CPU", against_shipped, own, subject.oracle),
    ]


def _check_oracle(subject: Subject, vectors: Vectors) -> None:
    """Compared with itself an answer is not finite only where it counts: not at padding."""
    own = subject.compare(vectors.pytorch, vectors.pytorch, vectors.cases).measures()
    odd = [name for name, measured in own.items() if not np.isfinite(measured.max_abs)]
    if odd:
        raise BundleError(
            f"the vectors are malformed: {subject.oracle}'s answers are not finite in "
            f"{', '.join(odd)}, so nothing can be held against them"
        )
