"""Rivals side by side: the options that name them, and rounds that go around all of them."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

from workers import Rival, Worker

Question = TypeVar("Question")
Answer = TypeVar("Answer")
Kinds = Mapping[str, tuple[str, str, str | None]]
"""Option -> what it is called, its module, and its environment."""
MIN_ROUNDS = 5


def add_kinds(parser: argparse.ArgumentParser, kinds: Kinds) -> None:
    """An option for each kind of rival; all of them may be given often."""
    for kind, (title, *_) in kinds.items():
        parser.add_argument(f"--{kind}", action="append", default=[], help=f"what {title} runs")


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options; the parser's error if the rounds are few or the threads more than the cores."""
    options = parser.parse_args()
    if options.rounds < MIN_ROUNDS:
        parser.error(f"--rounds is {options.rounds}: at least {MIN_ROUNDS}, for a median to hold")
    if not 0 < options.threads <= len(os.sched_getaffinity(0)):
        parser.error(f"--threads is {options.threads}: this machine has {os.cpu_count()} cores")
    return options


def named(options: argparse.Namespace, kinds: Kinds, least: int = 2) -> list[Rival]:
    """The rivals that the options name, in the order of the kinds. SystemExit if they are few."""
    rivals = [
        Rival(f"{title} {Path(place).name}", module, env, (("model", str(Path(place).resolve())),))
        for kind, (title, module, env) in kinds.items()
        for place in getattr(options, kind.replace("-", "_"))
    ]
    if len(rivals) < least:
        wanted = "two rivals at the least" if least == 2 else "a rival"
        raise SystemExit(f"name {wanted}: {', '.join(f'--{kind}' for kind in kinds)}")
    return rivals


def last_cores(threads: int) -> str:
    """So many cores, as a worker takes them: the last ones, as interrupts like the first."""
    return ",".join(map(str, sorted(os.sched_getaffinity(0))[-threads:]))


def in_rounds(
    rivals: Sequence[Rival],
    script: Path,
    threads: int,
    questions: Sequence[Question],
    ask: Callable[[Worker, Question], Answer],
) -> tuple[list[dict[str, Any]], list[tuple[Answer, ...]]]:
    """Each round asks every rival one question, after the first one has warmed it up.

    Returns what each rival says of itself, and its answers.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        workers, facts, rounds = [], [], []
        for number, rival in enumerate(rivals):
            place = folder / str(number)
            worker = stack.enter_context(Worker(rival, place, last_cores(threads), script))
            facts.append(worker.ask("prepare", threads=threads, **dict(rival.settings)))
            ask(worker, questions[0])
            workers.append(worker)
        for number, question in enumerate(questions, start=1):
            print(f"round {number} of {len(questions)}", file=sys.stderr)
            rounds.append([ask(worker, question) for worker in workers])
    return facts, list(zip(*rounds, strict=True))
