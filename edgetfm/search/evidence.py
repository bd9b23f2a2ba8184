"""What a model is asked: cases of many shapes, data to calibrate on, and other data to judge by."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from edgetfm import files
from edgetfm.errors import DataError
from edgetfm.quantize.calibration import FILES, SAMPLES, Calibration, read_calibration
from edgetfm.runtime.cases import parity_cases
from edgetfm.runtime.preprocess import Preprocessor
from edgetfm.runtime.text import TextEncoder
from edgetfm.search.array_evidence import array_cases, batched, encoded, read_items
from edgetfm.search.goal import Goal
from edgetfm.search.targets import with_targets
from edgetfm.search.windows import windows
from edgetfm.signature import Array, Feeds, Signature
from edgetfm.task import Task

BATCH = 4
JUDGE_SHARE = 4
"""One item in four judges; it is never calibrated on."""
MAX_JUDGED_ELEMENTS = 1 << 25
"""How many output numbers are kept to judge by: logits over a vocabulary are large."""
THOUSAND = 1024
"""Tokens that perplexity wants: a decoder is judged by no fewer, whatever its vocabulary."""
MAX_ASKED_ELEMENTS = 3 << 23
"""How many of them one batch may have: four texts of 49,152 words, one of 128,256."""
WINDOW = 128
"""Tokens of a text that a decoder is calibrated on or judged by."""


@dataclass(frozen=True)
class Evidence:
    """Feeds for each purpose. `labels` belong to the rows of `judged`, where data has them."""

    cases: list[Feeds]
    calibration: list[Feeds]
    judged: list[Feeds]
    facts: dict[str, Any]
    labels: Array | None = None
    notes: tuple[str, ...] = field(default=())

    def beginning_with(self, cases: Sequence[Feeds]) -> Self:
        """The same with these cases first, and of its own those of other shapes."""
        shapes = [_shapes(feeds) for feeds in cases]
        others = [feeds for feeds in self.cases if _shapes(feeds) not in shapes]
        return replace(self, cases=[*cases, *others])


def _shapes(feeds: Feeds) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in feeds.items()}


def gather(
    preprocessor: Preprocessor,
    signature: Signature,
    task: Task,
    goal: Goal,
    sample: Path | None,
    *,
    long: int = 0,
    generation: Mapping[str, Any] | None = None,
) -> Evidence:
    """The evidence for a model: the user's data, else its own sample, else what ships with us.

    The cases that are kept in the bundle come from the shipped sample, never from the user's
    data; `long`: a text of so many tokens is among them. If nothing is to be quantized there is
    nothing to calibrate or to judge, and only a sample with labels is of use. generation: of an
    encoder-decoder, whose cases get targets by it, and whose other data is of sources alone.
    """
    if task.seq2seq:
        reads = replace(task, generates=False, seq2seq=False)
        found = gather(preprocessor, signature.of_source, reads, goal, sample, long=long)
        (logits,) = signature.outputs
        cases = with_targets(found.cases, generation or {}, int(logits.shape[-1]))
        return replace(found, cases=cases)
    if preprocessor.makes_nothing:
        return _from_arrays(signature, goal)
    shipped = paired(None, task.senses)
    cases = parity_cases(preprocessor, signature, task, shipped.items, long=long)
    if goal.calibration is None and sample is not None and sample.suffix == ".npz":
        made = _from_sample(cases, sample, signature)
        return made if goal.quantizes else replace(made, facts={})
    if not goal.quantizes:
        return Evidence(cases, [], [], {})
    data = shipped
    if goal.calibration is not None and goal.calibration.suffix == ".npz":
        return replace(_from_arrays(signature, goal, preprocessor.text), cases=cases)
    if goal.calibration is not None:
        data = paired(goal.calibration, task.senses, goal.samples)
    elif sample is not None:
        own = paired(sample, task.senses, goal.samples)
        data = replace(own, name="the checkpoint's own sample")
    fit, judge = split(data.items)
    if task.generates:
        return _of_windows(cases, preprocessor.text_encoder, signature, data)
    encode = partial(preprocessor.inputs, task.senses)
    limit = max(1, MAX_JUDGED_ELEMENTS // max(1, _elements_per_item(signature)))
    return Evidence(
        cases,
        encoded(encode, fit, signature, BATCH),
        encoded(encode, judge[:limit], signature, BATCH),
        {"name": data.name, "count": data.count, "sha256": data.fingerprint},
        notes=(data.note,) if data.note else (),
    )


def _of_windows(
    cases: list[Feeds], encoder: TextEncoder, signature: Signature, data: Calibration
) -> Evidence:
    """Evidence for a decoder: texts of one length, each of as many items as it takes.

    What comes next can only be foretold of a text that is long enough.
    """
    fit, judge = split(data.items)
    vocabulary = int(np.prod([a for o in signature.outputs for a in o.shape if isinstance(a, int)]))
    most = windows_to_judge(vocabulary)
    at_once = max(1, min(BATCH, MAX_ASKED_ELEMENTS // (WINDOW * vocabulary)))
    return Evidence(
        cases,
        windows(encoder, fit, WINDOW, BATCH),
        windows(encoder, judge, WINDOW, at_once, most),
        {"name": data.name, "count": data.count, "sha256": data.fingerprint},
        notes=(data.note,) if data.note else (),
    )


def windows_to_judge(vocabulary: int) -> int:
    """How many texts of WINDOW tokens judge a decoder: THOUSAND tokens, or all that may be kept.

    Of a large vocabulary that is more than is kept of other models: it lies in files.
    """
    return max(THOUSAND // WINDOW, MAX_JUDGED_ELEMENTS // (WINDOW * vocabulary))


def paired(path: Path | None, senses: tuple[str, ...], limit: int = SAMPLES) -> Calibration:
    """The items at `path`, None for those that ship.

    For several senses an item has a part of each; the shorter list begins again, in step with
    `split`, so that no part of an item that judges is in one that is calibrated on. A folder of
    pictures is no text, and the other way round: a sense that `path` holds nothing for has the
    items that ship.
    """
    if len(senses) == 1:
        return read_calibration(path, senses[0], limit)
    is_folder = path is not None and path.is_dir()
    parts = [
        read_calibration(path if is_folder == (sense in FILES) else None, sense, limit)
        for sense in senses
    ]
    count = max(part.count for part in parts)
    rounds = [part.count - part.count % JUDGE_SHARE or part.count for part in parts]
    columns = [
        [part.items[i if part.count == count else i % length] for i in range(count)]
        for part, length in zip(parts, rounds, strict=True)
    ]
    digest = hashlib.sha256("".join(part.fingerprint for part in parts).encode()).hexdigest()
    return Calibration(
        " and ".join(part.name for part in parts),
        list(zip(*columns, strict=True)),
        digest,
        "; ".join(part.note for part in parts if part.note),
    )


def _from_arrays(signature: Signature, goal: Goal, encoder: TextEncoder | None = None) -> Evidence:
    """The user's arrays: all there is for a model whose inputs nobody knows how to make."""
    items, name, fingerprint = read_items(goal.calibration, signature, goal.samples, encoder)
    cases = array_cases(items, signature)
    if not goal.quantizes:
        return Evidence(cases, [], [], {})
    fit, judge = (batched(part, signature, BATCH) for part in split(items))
    return Evidence(cases, fit, judge, {"name": name, "count": len(items), "sha256": fingerprint})


def split(items: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Items to calibrate on and items to judge by: every fourth judges."""
    if len(items) < JUDGE_SHARE:
        raise DataError(
            f"{len(items)} calibration items are too few: give at least {JUDGE_SHARE}, "
            "better 100 or more, like the inputs the model will meet"
        )
    judge = list(items[JUDGE_SHARE - 1 :: JUDGE_SHARE])
    fit = [item for i, item in enumerate(items) if i % JUDGE_SHARE != JUDGE_SHARE - 1]
    return fit, judge


def _batches(items: Sequence[Any]) -> list[list[Any]]:
    return [list(items[i : i + BATCH]) for i in range(0, len(items), BATCH)]


def _elements_per_item(signature: Signature) -> int:
    """Output numbers for a text of 128 tokens, or for one image."""
    sizes = [[128 if isinstance(a, str) else a for a in o.shape[1:]] for o in signature.outputs]
    return int(sum(np.prod(size) for size in sizes))


def _from_sample(cases: list[Feeds], path: Path, signature: Signature) -> Evidence:
    """The inputs, already prepared, that a checkpoint of ours keeps from its validation split."""
    with np.load(path, allow_pickle=False) as archive:
        inputs = {spec.name: archive[spec.name] for spec in signature.inputs}
        labels = archive["labels"] if "labels" in archive.files else None
    count = len(next(iter(inputs.values())))
    fit, judge = split(range(count))
    fitted, judged = (
        [{name: array[rows] for name, array in inputs.items()} for rows in _batches(part)]
        for part in (fit, judge)
    )
    facts = {
        "name": "the checkpoint's own sample",
        "count": count,
        "sha256": files.sha256(path),
    }
    return Evidence(cases, fitted, judged, facts, None if labels is None else labels[judge])
