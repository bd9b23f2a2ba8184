"""Training from a configuration to a checkpoint, through accelerate."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgetfm.errors import InputError, MissingExtra
from edgetfm.progress import Progress, quiet
from edgetfm.reporting.curve import training_page
from edgetfm.training.checkpoint import check_output, write_checkpoint
from edgetfm.training.config import TrainConfig, load_config

try:
    import torch

    from edgetfm.training.resuming import resumable, why_not_resumable
    from edgetfm.training.run import Run
except ImportError as error:
    raise MissingExtra("train", "training") from error


@dataclass(frozen=True)
class TrainResult:
    """A finished run: its checkpoint, what metrics.json holds, and how long it took."""

    checkpoint: Path
    metrics: dict[str, Any]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The form `--json` prints: without the curves, which are in metrics.json."""
        long = ("curve", "losses", "config", "data")
        short = {k: v for k, v in self.metrics.items() if k not in long}
        notes = {"notes": said} if (said := self.metrics["data"].get("notes")) else {}
        seconds = round(self.seconds, 1)
        return {"checkpoint": str(self.checkpoint), **short, **notes, "seconds": seconds}


def train(
    config: TrainConfig | str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    overrides: Mapping[str, Any] | None = None,
    force: bool = False,
    resume: bool = False,
    progress: Progress = quiet,
) -> TrainResult:
    """Train a model and write the best weights as a checkpoint to the folder `output`.

    config: a TrainConfig, a .toml file or the name of one that ships; overrides: values by key
    ('epochs', 'model.width'). resume: go on with the run in `output` that was cut off, or begin
    one. The same configuration and versions give the same weights bit for bit, cut off or not, if
    `threads` is set or the machine has as many. Test data is looked at once, when training is
    over. In a process that accelerate or torchrun started, the batch is shared with the others.

    Raises InputError for a configuration, DataError for a dataset and OutputError for an output
    that cannot be used, all before training. A loss that is not finite is a DataError, and the
    checkpoint of the last epoch stays. An interrupt is a KeyboardInterrupt, once the step is done
    and the run is saved.
    """
    if not isinstance(config, TrainConfig):
        config = load_config(config, overrides)
    elif overrides:
        config = TrainConfig.from_dict(config.to_json() | dict(overrides))
    output = Path(output)
    check_output(output, force=force, resume=resume)
    going_on = resume and resumable(output)
    if resume and not going_on and output.exists() and any(output.iterdir()):
        raise InputError(f"{why_not_resumable(output)}: begin again with --force")
    started = time.perf_counter()
    progress("reading the data", 0, 0)
    with _deterministic(config.seed, config.threads), _accelerate():
        run = Run(config)
        run.prepare(output if going_on else None)

        def save(*, complete: bool = False) -> dict[str, Any]:
            metrics = run.metrics(complete=complete)
            if run.is_main:
                inputs = tuple(s.name for s in run.family.inputs(run.model_config, config.task))
                kept = {} if complete else run.state_files()
                write_checkpoint(
                    output,
                    family=run.family,
                    task=config.task,
                    config=run.model_config,
                    labels=run.objective.labels,
                    weights=run.weights(),
                    metrics=metrics,
                    files={**run.objective.files(inputs), **kept, **_report(config, metrics)},
                )
            return metrics

        with _interrupts() as stop:
            try:
                run.fit(progress, save, stop)
            except KeyboardInterrupt:
                if run.position.step:
                    save()
                raise
            return TrainResult(output, save(complete=True), time.perf_counter() - started)


def _report(config: TrainConfig, metrics: Mapping[str, Any]) -> dict[str, bytes]:
    """The page that shows how it went."""
    title = f"{config.family} for {config.task}"
    return {"report.html": training_page(title, metrics).encode()}


@contextmanager
def _deterministic(seed: int, threads: int) -> Iterator[None]:
    """Seed torch for a while; its generator and its settings are as before afterwards."""
    before = torch.are_deterministic_algorithms_enabled()
    before_threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        torch.set_num_threads(threads or before_threads)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)
            torch.set_num_threads(before_threads)


@contextmanager
def _accelerate() -> Iterator[None]:
    """Accelerate's settings are of one run: it keeps them for a process otherwise."""
    from accelerate.state import AcceleratorState

    try:
        yield
    finally:
        AcceleratorState._reset_state()


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Ctrl-C waits for the end of the step; a second one does not."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, handle)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
