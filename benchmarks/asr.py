"""Speech to text end to end: edgetfm bundles beside what else runs the same Whisper.

    python benchmarks/asr.py --clips DIR --bundle runs/whisper-int8 --genai GENAI_DIR

Short clips, each heard alone, greedily, without timestamps. One process a rival, in an environment
of its own, all on the same cores and never two at once; rounds go around the rivals, and ratios are
taken inside a round, so a slow moment of the machine falls on all of them. What
onnxruntime-genai's own builder makes in int8 is the mark. DIR holds one-channel 16 kHz .wav files
and a file `transcription` with a line `text (name)` for each. How the rivals' files are made of a
Hugging Face folder, each by the tool of its makers:

    python -m onnxruntime_genai.models.builder -m DIR -o OUT -p int8 -e cpu
    ct2-transformers-converter --model DIR --output_dir OUT --copy_files tokenizer.json
    optimum-cli export openvino -m DIR --task automatic-speech-recognition-with-past \\
        --weight-format int8 OUT
"""

from __future__ import annotations

import argparse
import re
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from output import table_of, tell
from rich.table import Table
from rounds import MIN_ROUNDS, add_kinds, in_rounds, named, parsed
from workers import Rival, Worker

from edgetfm.scoring.metrics import word_error_rate

SCRIPT = Path(__file__).with_name("rivals") / "asr_worker.py"
KINDS = {
    "genai": ("onnxruntime-genai", "genai_asr", "onnxruntime-genai"),
    "torch": ("PyTorch eager", "torch_asr", None),
    "faster-whisper": ("faster-whisper int8", "faster_whisper_asr", "faster-whisper"),
    "openvino": ("OpenVINO", "openvino_asr", "openvino-genai"),
    "bundle": ("edgetfm", "ours_asr", None),
}
"""Option -> what it is called, its module, and its environment. The first is the mark."""


@dataclass(frozen=True)
class Row:
    """A rival's measures over all clips: medians of the rounds, and ratios to the first rival.

    ratio, cpu_ratio: how many times as long the mark takes, by the clock and of processor time.
    cpu_share: processor time over clock and threads; what is missing, somebody else used, or
    nobody.
    """

    title: str
    seconds: float
    cpu_seconds: float
    ratio: float
    cpu_ratio: float
    cpu_share: float
    word_error_rate: float
    megabytes: float
    versions: dict[str, str]


@dataclass(frozen=True)
class Round:
    """All clips once: seconds by the clock and of processor time, and the texts."""

    wall: float
    cpu: float
    texts: tuple[str, ...]


def main() -> None:
    options = arguments()
    rivals = named(options, KINDS)
    rows = measure(rivals, clips_in(options.clips), options.threads, options.rounds)
    found = {"threads": options.threads, "rows": list(map(asdict, rows))}
    tell(table(rows, options.threads), found, options.json)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clips", type=Path, required=True, help="recordings and their texts")
    add_kinds(parser, KINDS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=MIN_ROUNDS)
    parser.add_argument("--json", default="", help="a file, or - for the standard output")
    return parsed(parser)


def clips_in(folder: Path) -> dict[str, str]:
    """The path of each recording, and what is said in it."""
    lines = (folder / "transcription").read_text(encoding="utf-8").splitlines()
    found = (re.fullmatch(r"(?:<s> )?(.*?)(?: </s>)? \((\S+)\)", line) for line in lines)
    return {str(folder / f"{m[2]}.wav"): m[1] for m in found if m}


def measure(rivals: Sequence[Rival], clips: dict[str, str], threads: int, rounds: int) -> list[Row]:
    """Each round asks every rival about all clips, after one that warms up."""
    facts, answers = in_rounds(rivals, SCRIPT, threads, [clips] * rounds, heard)
    return [
        row(rival, fact, own, answers[0], clips, threads)
        for rival, fact, own in zip(rivals, facts, answers, strict=True)
    ]


def heard(worker: Worker, clips: dict[str, str]) -> Round:
    found = [worker.ask("hear", clip=clip) for clip in clips]
    return Round(
        sum(one["wall"] for one in found),
        sum(one["cpu"] for one in found),
        tuple(one["text"] for one in found),
    )


def row(
    rival: Rival,
    fact: dict[str, Any],
    own: Sequence[Round],
    mark: Sequence[Round],
    clips: dict[str, str],
    threads: int,
) -> Row:
    wall = statistics.median(one.wall for one in own)
    cpu = statistics.median(one.cpu for one in own)
    return Row(
        title=rival.title,
        seconds=wall,
        cpu_seconds=cpu,
        ratio=statistics.median(m.wall / one.wall for m, one in zip(mark, own, strict=True)),
        cpu_ratio=statistics.median(m.cpu / one.cpu for m, one in zip(mark, own, strict=True)),
        cpu_share=statistics.median(one.cpu / one.wall / threads for one in own),
        word_error_rate=word_error_rate(list(clips.values()), own[-1].texts),
        megabytes=fact["bytes"] / 1e6,
        versions=fact["versions"],
    )


def table(rows: Sequence[Row], threads: int) -> Table:
    columns = (
        ("", "{.title}"),
        ("seconds", "{.seconds:.2f}"),
        ("ratio", "{.ratio:.2f}x"),
        ("cpu seconds", "{.cpu_seconds:.2f}"),
        ("cpu ratio", "{.cpu_ratio:.2f}x"),
        ("cores used", "{.cpu_share:.0%}"),
        ("WER", "{.word_error_rate:.3f}"),
        ("MB", "{.megabytes:.1f}"),
    )
    title = f"speech to text, greedy, {threads} threads; ratios to {rows[0].title}"
    return table_of(title, rows, columns)


if __name__ == "__main__":
    main()
