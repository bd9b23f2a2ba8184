"""Text generation end to end: edgetfm bundles beside what else runs the same checkpoint.

    python benchmarks/decoder.py --checkpoint DIR --bundle runs/smollm2-int4 --genai GENAI_DIR

A prompt of 64 tokens, 128 new ones, greedy; and the first token after a prompt of 128. One process
a rival, in an environment of its own, all on the same cores and never two at once; rounds go around
the rivals, and ratios are taken inside a round, so a slow moment of the machine falls on all of
them. What onnxruntime-genai's own builder makes is the mark. How the rivals' files are made of a
checkpoint, each by the tool of its makers (the last two in the environments of `envs/`):

    python -m onnxruntime_genai.models.builder -m DIR -o OUT -p int4 -e cpu
    python benchmarks/rivals/make_gguf.py MODEL.gguf OUT.gguf
    optimum-cli export openvino -m DIR --task text-generation-with-past --weight-format int4 \\
        --group-size 64 OUT
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from output import table_of, tell
from rich.table import Table
from rounds import MIN_ROUNDS, add_kinds, in_rounds, named, parsed
from texts import judged_texts
from tokenizers import Tokenizer
from workers import Rival, Worker

SCRIPT = Path(__file__).with_name("rivals") / "decoder_worker.py"
PROMPT, NEW = 64, 128
LONG = 128
"""Tokens of the prompt that is only read."""
KINDS = {
    "torch": ("PyTorch eager", "torch_decoder", None),
    "genai": ("onnxruntime-genai", "genai", "onnxruntime-genai"),
    "llama-cpp": ("llama.cpp", "llamacpp", "llama-cpp"),
    "openvino": ("OpenVINO", "openvino_llm", "openvino-genai"),
    "bundle": ("edgetfm", "ours_decoder", None),
}
"""Option -> what it is called, its module, and its environment."""


@dataclass(frozen=True)
class Row:
    """A rival's measures: medians over the rounds, and ratios to the first rival.

    first_ms: until the first token is there. long_ms: that after a prompt of LONG tokens, and
    long_ratio its ratio, above 1 where it is sooner. tokens_per_second: of those after the first.
    ratio: of these. cpu_ratio: of the processor time of whole answers, which also holds, at one
    thread, where somebody else uses the core. cpu_share: processor time over clock and threads;
    below 0.95 somebody else used the cores.
    """

    title: str
    first_ms: float
    long_ms: float
    long_ratio: float
    tokens_per_second: float
    seconds: float
    ratio: float
    cpu_ratio: float
    cpu_share: float
    megabytes: float
    versions: dict[str, str]


@dataclass(frozen=True)
class Answer:
    """One answer: seconds to the first token, of the others together, and of processor time.

    long: seconds to the first token after the long prompt.
    """

    first: float
    rest: float
    cpu: float
    long: float


def main() -> None:
    options = arguments()
    rivals = named(options, KINDS)
    rivals.sort(key=lambda rival: rival.module != "genai")  # the mark is the first
    rows = measure(rivals, prompts(options.checkpoint, options.rounds), options.threads)
    found = {"threads": options.threads, "rows": list(map(asdict, rows))}
    tell(table(rows, options.threads), found, options.json)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", type=Path, required=True, help="with its tokenizer.json")
    add_kinds(parser, KINDS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=MIN_ROUNDS)
    parser.add_argument("--json", default="", help="a file, or - for the standard output")
    return parsed(parser)


def prompts(checkpoint: Path, count: int) -> list[list[int]]:
    """The beginnings of film reviews that are long enough, one a round."""
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    ids = (tokenizer.encode(text, add_special_tokens=False).ids for text in judged_texts())
    return [found[:LONG] for found in ids if len(found) >= LONG][:count]


def measure(rivals: list[Rival], asked: list[list[int]], threads: int) -> list[Row]:
    """Each round asks every rival one prompt, after one that warms up; `asked`: [LONG] tokens."""
    facts, answers = in_rounds(rivals, SCRIPT, threads, asked, answered)
    return [
        row(rival, fact, own, answers[0], threads)
        for rival, fact, own in zip(rivals, facts, answers, strict=True)
    ]


def answered(worker: Worker, ids: list[int]) -> Answer:
    """SystemExit if it is not as long as it was asked to be."""
    found = worker.ask("generate", ids=ids[:PROMPT], new=NEW)
    if len(found["tokens"]) != NEW:
        raise SystemExit(f"{worker.rival.title} wrote {len(found['tokens'])} tokens, not {NEW}")
    first, last = found["times"][0], found["times"][-1]
    long = worker.ask("generate", ids=ids, new=1)["times"][0]
    return Answer(first, last - first, found["cpu"], long)


def row(
    rival: Rival,
    fact: dict[str, Any],
    own: Sequence[Answer],
    mark: Sequence[Answer],
    threads: int,
) -> Row:
    def median(values: list[float]) -> float:
        return float(statistics.median(values))

    whole = [one.first + one.rest for one in own]
    return Row(
        title=rival.title,
        first_ms=1e3 * median([one.first for one in own]),
        long_ms=1e3 * median([one.long for one in own]),
        long_ratio=median([m.long / one.long for m, one in zip(mark, own, strict=True)]),
        tokens_per_second=median([(NEW - 1) / one.rest for one in own]),
        seconds=median(whole),
        ratio=median([m.rest / one.rest for m, one in zip(mark, own, strict=True)]),
        cpu_ratio=median([m.cpu / one.cpu for m, one in zip(mark, own, strict=True)]),
        cpu_share=median([one.cpu / w / threads for one, w in zip(own, whole, strict=True)]),
        megabytes=fact["bytes"] / 1e6,
        versions=fact["versions"],
    )


def table(rows: list[Row], threads: int) -> Table:
    columns = (
        ("", "{.title}"),
        ("first token ms", "{.first_ms:.0f}"),
        (f"after {LONG} ms", "{.long_ms:.0f}"),
        ("ratio", "{.long_ratio:.2f}x"),
        ("tokens/s", "{.tokens_per_second:.1f}"),
        ("ratio", "{.ratio:.2f}x"),
        ("cpu ratio", "{.cpu_ratio:.2f}x"),
        ("seconds", "{.seconds:.2f}"),
        ("MB", "{.megabytes:.1f}"),
        ("cores used", "{.cpu_share:.0%}"),
    )
    return table_of(f"{PROMPT} tokens in, {NEW} out, greedy, {threads} threads", rows, columns)


if __name__ == "__main__":
    main()
