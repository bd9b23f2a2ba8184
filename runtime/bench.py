"""How fast a bundle answers here, how long it loads, and how much memory it takes."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from edgetfm.bundle import Bundle
from edgetfm.errors import InputError
from edgetfm.progress import Progress, quiet
from edgetfm.runtime.cases import feeds_of_shape
from edgetfm.runtime.encoder_decoder import EncoderDecoder
from edgetfm.runtime.generation.measure import Speed, measure_generation, measure_pairs
from edgetfm.runtime.machine import machine
from edgetfm.runtime.memory import peak_memory
from edgetfm.runtime.model import Model, load
from edgetfm.runtime.preprocess import Preprocessor
from edgetfm.runtime.tuning import timed
from edgetfm.signature import Feeds, Signature
from edgetfm.tasks import task_named

WARM_UP = 5
LOADS = 3
_LENGTHS = {"sequence", "encoder_sequence"}


def bench(
    path: str | os.PathLike[str],
    *,
    precision: str | None = None,
    device: str = "cpu",
    batch: int = 1,
    sequence: int = 128,
    threads: int | None = None,
    runs: int = 50,
    memory: bool = True,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """A bundle measured on this machine: JSON values, in this form.

    latency_ms: {p50, p95, min, mean} of `runs` calls after a warm-up; of a decoder, of a token:
    each round reads a prompt of `sequence` tokens and writes `runs` more, and `generation` has
    {prompt_tokens, prefill_tokens_per_second, decode_tokens_per_second, time_to_first_token_ms}
    (None of other models); of an encoder-decoder the prompt is the source. load_ms: from files to a
    model that can answer, hashes checked, the files in the system's cache. peak_memory_mb:
    anonymous memory (RssAnon, in MB of 10^6 bytes) of a fresh process that loads and runs the
    bundle, above what it had after its imports; None where the system does not tell. bytes: of
    the graph and its weights. batch, sequence (None for images), threads (None is onnxruntime's
    default), runs, precision, device, placement (provider -> nodes), session (the settings in
    use), machine (CPU, its features, versions). model: the task, and the source's name and hashes;
    files: name -> sha256 of the variant's graphs and weights.

    Raises DeviceError, and gives no number, if any of it fell back to another device.
    """
    at_least_one(batch=batch, sequence=sequence, runs=runs)
    options: dict[str, Any] = {"precision": precision, "device": device, "threads": threads}
    progress("loading", 0, 0)
    loading = [timed(lambda: load(path, **options)) for _ in range(LOADS)]
    model = load(path, **options)
    speed = None
    if _generates(model):
        speed = _speed(model, batch, sequence, runs, progress=progress)
        milliseconds = speed.step * 1e3
    else:
        milliseconds = _latency(model, _feeds(model, batch, sequence), runs, progress) * 1e3
    peak = None
    if memory:
        progress("measuring memory", 0, 0)
        child = {"path": os.fspath(model.bundle.root.resolve()), "load": options}
        peak = peak_memory(
            "edgetfm.runtime.bench",
            child | {"batch": batch, "sequence": sequence, "runs": runs},
            "onnxruntime",
            "tokenizers",
        )
    return {
        "latency_ms": percentiles(milliseconds),
        "generation": None if speed is None else speed.to_json(),
        "load_ms": round(float(np.median(loading)) * 1e3, 2),
        "peak_memory_mb": None if peak is None else round(peak / 1e6, 1),
        **measured_thing(model.bundle, model.precision),
        "batch": batch,
        "sequence": sequence_of(model.signature, sequence),
        "threads": threads,
        "runs": runs,
        "device": device,
        "placement": model.placement,
        "session": dict(model.session_options),
        "machine": machine(),
    }


def at_least_one(**counts: int) -> None:
    """InputError for a count below 1."""
    for name, value in counts.items():
        if value < 1:
            raise InputError(f"{name} is {value}, it must be 1 or more")


def percentiles(milliseconds: Any) -> dict[str, float]:
    """p50, p95, min and mean of an array of times."""
    return {
        "p50": round(float(np.percentile(milliseconds, 50)), 4),
        "p95": round(float(np.percentile(milliseconds, 95)), 4),
        "min": round(float(milliseconds.min()), 4),
        "mean": round(float(milliseconds.mean()), 4),
    }


def measured_thing(bundle: Bundle, precision: str) -> dict[str, Any]:
    """What was measured: the model, the variant, its files and their bytes."""
    manifest = bundle.manifest
    return {
        "model": {
            "task": manifest.task,
            **{key: manifest.source.get(key) for key in ("name", "sha256")},
        },
        "files": {file: manifest.files[file].sha256 for file in bundle.variant_files(precision)},
        "bytes": bundle.variant_bytes(precision),
        "precision": precision,
    }


def sequence_of(signature: Signature, sequence: int) -> int | None:
    """The length that was asked for, None of inputs that have none."""
    return sequence if _LENGTHS & {*signature.axes} else None


def _generates(model: Model) -> bool:
    return writes(model.bundle)


def writes(bundle: Bundle) -> bool:
    """Whether it writes token after token, so that a call alone says little."""
    manifest = bundle.manifest
    return task_named(manifest.task).generates or manifest.signature.has_source


def _speed(model: Model, batch: int, sequence: int, tokens: int, **options: Any) -> Speed:
    """How fast it writes: after a prompt of `sequence` tokens, or about a source of as many."""
    if not isinstance(model.session, EncoderDecoder):
        return measure_generation(model, batch=batch, prompt=sequence, tokens=tokens, **options)
    said = model.bundle.manifest.generation
    longest = said.get("context") or tokens + 1
    if tokens >= longest:
        raise InputError(f"{tokens} tokens do not fit the model's context of {longest}")
    sources, start = _feeds(model, batch, sequence), said.get("decoder_start") or 0
    return measure_pairs(model.session, sources, tokens=tokens, start=start, **options)


def _latency(model: Model, feeds: Feeds, runs: int, progress: Progress) -> Any:
    """Seconds of each of `runs` calls, [runs]."""
    for _ in range(WARM_UP):
        model.run(feeds)
    seconds = []
    for number in range(runs):
        progress("measuring latency", number, runs)
        seconds.append(timed(lambda: model.run(feeds)))
    progress("measuring latency", runs, runs)
    return np.array(seconds)


def _feeds(model: Model, batch: int, sequence: int) -> Feeds:
    return feeds_for(model.bundle, batch, sequence)


def feeds_for(bundle: Bundle, batch: int, sequence: int) -> Feeds:
    """Inputs of this shape: what they say does not matter to how long they take."""
    manifest = bundle.manifest
    signature = manifest.signature.of_source
    preprocessor = Preprocessor.from_folder(bundle.root, manifest.preprocessing, signature)
    return feeds_of_shape(preprocessor, signature, task_named(manifest.task), batch, sequence)


def child_main(request: str) -> None:
    """Load and run once what `request` says, in a process whose memory is watched."""
    wanted = json.loads(request)
    model = load(wanted["path"], **wanted["load"])
    batch, sequence = wanted["batch"], wanted["sequence"]
    if _generates(model):
        _speed(model, batch, sequence, wanted["runs"], rounds=1)
        return
    feeds = _feeds(model, batch, sequence)
    for _ in range(2):
        model.run(feeds)
