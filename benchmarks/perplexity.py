"""How well decoders foretell film reviews: edgetfm bundles beside others' files of one checkpoint.

    python benchmarks/perplexity.py --checkpoint DIR --genai GENAI_DIR --bundle runs/smollm2-int4

Every rival scores the same tokens in an environment of its own, as in decoder.py; no calibration
has seen these texts. `more` is what share a perplexity is above that of the first rival named in
the order of the options, and its spread: two standard errors over the texts.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from decoder import KINDS, SCRIPT
from output import tell
from rich.table import Table
from rounds import add_kinds, last_cores, named
from texts import judged_texts
from tokenizers import Tokenizer
from workers import Rival, Worker

TEXTS, TOKENS = 20, 256


@dataclass(frozen=True)
class Row:
    """A rival's perplexity over all tokens, and beside the first rival's: see above."""

    title: str
    perplexity: float
    more: float
    spread: float
    megabytes: float
    versions: dict[str, str]


@dataclass(frozen=True)
class Scored:
    """What a rival said of each text: log likelihoods in nats, one array a text."""

    rival: Rival
    megabytes: float
    versions: dict[str, str]
    texts: list[np.ndarray]


def main() -> None:
    options = arguments()
    rivals = named(options, KINDS, least=1)
    tokenizer = Tokenizer.from_file(str(options.checkpoint / "tokenizer.json"))
    texts = judged_texts(options.texts)
    ids = [tokenizer.encode(text, add_special_tokens=False).ids[:TOKENS] for text in texts]
    scored = [score(rival, ids, options.threads) for rival in rivals]
    rows = [row(one, scored[0]) for one in scored]
    told = table(rows, sum(len(one) - 1 for one in ids))
    tell(told, list(map(asdict, rows)), options.json)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", type=Path, required=True, help="with its tokenizer.json")
    add_kinds(parser, KINDS)
    parser.add_argument("--texts", type=int, default=TEXTS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", default="", help="a file, or - for the standard output")
    return parser.parse_args()


def score(rival: Rival, texts: list[list[int]], threads: int) -> Scored:
    """One rival's log likelihoods, from a process of its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Worker(rival, Path(folder) / "0", last_cores(threads), SCRIPT) as worker,
    ):
        facts = worker.ask("prepare", threads=threads, **dict(rival.settings))
        found = [np.array(worker.ask("score", ids=ids)["log_likelihoods"]) for ids in texts]
    return Scored(rival, facts["bytes"] / 1e6, facts["versions"], found)


def row(one: Scored, first: Scored) -> Row:
    """SystemExit if the two were not asked about the same tokens."""
    if [len(text) for text in one.texts] != [len(text) for text in first.texts]:
        raise SystemExit(f"{one.rival.title} scored other tokens than {first.rival.title}")
    mean = float(np.concatenate(one.texts).mean())
    lost = [float((a - b).sum()) for a, b in zip(first.texts, one.texts, strict=True)]
    tokens = sum(map(len, one.texts))
    error = float(np.std(lost)) * math.sqrt(len(lost)) / tokens
    more = math.expm1(sum(lost) / tokens)
    return Row(
        one.rival.title, math.exp(-mean), more, 2 * error * (1 + more), one.megabytes, one.versions
    )


def table(rows: list[Row], tokens: int) -> Table:
    made = Table(title=f"{tokens} tokens of film reviews")
    for name in ("", "perplexity", "more", "MB"):
        made.add_column(name, justify="left" if not name else "right")
    for r in rows:
        more = f"{r.more:+.1%} ± {r.spread:.1%}" if r is not rows[0] else ""
        made.add_row(r.title, f"{r.perplexity:.2f}", more, f"{r.megabytes:.1f}")
    return made


if __name__ == "__main__":
    main()
