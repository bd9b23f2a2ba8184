"""What a memory is worth on long texts: bundles of the family `memory`, with it and without it.

    python benchmarks/memory.py --bundle runs/with-memory --bundle runs/without --segment 32

Each text of the test part (the same as in training: `--config` says which data and shares) is read
from its first token to its last, segment by segment. `carried`: each segment is read on the memory
that the one before it left. `alone`: each is read on none. Losses are in nats a token; `spread` is
two standard errors over pieces of PIECE tokens, of what carrying the memory gains.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from output import tell
from rich.table import Table
from tokenizers import Tokenizer

import edgetfm
from edgetfm.training.config import load_config
from edgetfm.training.data.corpus import read_corpus

if TYPE_CHECKING:
    from edgetfm.runtime.model import Model

PIECE = 4096


@dataclass(frozen=True)
class Row:
    """Mean losses of one bundle over all tokens: see above."""

    bundle: str
    tokens: int
    carried: float
    alone: float
    spread: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bundle", type=Path, action="append", required=True)
    parser.add_argument("--config", default="memory-shakespeare")
    parser.add_argument("--segment", type=int, default=32, help="tokens that are read at once")
    parser.add_argument("--tokens", type=int, default=40_000, help="of each text, at most")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", default="", help="a file, or - for the standard output")
    options = parser.parse_args()
    config = load_config(options.config)
    texts = read_corpus(config.dataset, config.shares).parts["test"]
    rows = [measured(bundle, texts, options) for bundle in options.bundle]
    tell(table(rows, options.segment), list(map(asdict, rows)), options.json)


def measured(bundle: Path, texts: list[str], options: argparse.Namespace) -> Row:
    """One bundle over all texts."""
    model = edgetfm.load(bundle, threads=options.threads)
    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    found = []
    for text in texts:
        ids = np.array(tokenizer.encode(text, add_special_tokens=False).ids)[: options.tokens + 1]
        found.append(
            [
                np.concatenate(list(losses(model, ids, options.segment, carried=carried)))
                for carried in (True, False)
            ]
        )
    carried, alone = (np.concatenate(side) for side in zip(*found, strict=True))
    pieces = np.array_split(alone - carried, max(2, len(carried) // PIECE))
    gains = np.array([piece.mean() for piece in pieces])
    spread = 2 * gains.std(ddof=1) / math.sqrt(len(gains))
    return Row(bundle.name, len(carried), float(carried.mean()), float(alone.mean()), float(spread))


def losses(
    model: Model, ids: NDArray[np.int64], segment: int, *, carried: bool
) -> Iterator[NDArray[np.float64]]:
    """The loss of each token behind the first, segment by segment."""
    pasts = {spec.name: spec for spec in model.signature.inputs if spec.name.startswith("past")}
    nothing = {
        name: np.zeros((1, 1, 0, int(spec.shape[3])), np.float32) for name, spec in pasts.items()
    }
    past = nothing
    for start in range(0, len(ids) - 1, segment):
        asked = ids[start : start + segment][: len(ids) - 1 - start]
        slots = next(iter(past.values())).shape[2]
        before = min(slots, start) if carried else 0
        outputs = model.session.run(
            {
                "input_ids": asked[None],
                "attention_mask": np.ones((1, before + len(asked)), np.int64),
                "num_logits_to_keep": np.array(len(asked)),
                **past,
            }
        )
        logits = outputs["logits"][0].astype(np.float64)
        logits -= logits.max(axis=-1, keepdims=True)
        wanted = ids[start + 1 : start + 1 + len(asked), None]
        right = np.take_along_axis(logits, wanted, axis=-1)[:, 0]
        yield np.log(np.exp(logits).sum(axis=-1)) - right
        if carried:
            past = {name: outputs[name.replace("past_key_values", "present")] for name in pasts}


def table(rows: list[Row], segment: int) -> Table:
    made = Table(title=f"loss in nats on long texts, read in segments of {segment} tokens")
    for name in ("", "tokens", "carried", "alone", "gain"):
        made.add_column(name, justify="left" if not name else "right")
    for r in rows:
        gain = f"{r.alone - r.carried:.4f} ± {r.spread:.4f}"
        made.add_row(r.bundle, str(r.tokens), f"{r.carried:.4f}", f"{r.alone:.4f}", gain)
    return made


if __name__ == "__main__":
    main()
