"""One process, AdamW, and the weights that were best on the validation split."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from edgetfm.errors import DataError, InputError, MissingExtra, listed
from edgetfm.models import family_named
from edgetfm.models._family import Family
from edgetfm.progress import Progress, quiet
from edgetfm.training.checkpoint import check_output, write_checkpoint
from edgetfm.training.config import TrainConfig, load_config
from edgetfm.training.data import (
    Dataset,
    Split,
    batches,
    in_order,
    load_dataset,
    pixel_values,
    shifted,
)
from edgetfm.training.initialize import initialize
from edgetfm.training.schedule import warmup_cosine

try:
    import torch
    from torch import nn
    from torch.nn import functional
except ImportError as error:
    raise MissingExtra("train", "training") from error

TASK = "image-classification"


@dataclass(frozen=True)
class TrainResult:
    """A finished run: its checkpoint, what metrics.json holds, and how long it took."""

    checkpoint: Path
    metrics: dict[str, Any]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The form `--json` prints: without the curve, which is in metrics.json."""
        short = {k: v for k, v in self.metrics.items() if k not in ("curve", "config", "data")}
        return {"checkpoint": str(self.checkpoint), **short, "seconds": round(self.seconds, 1)}


@dataclass
class _Best:
    """The weights that did best on the validation split so far."""

    epoch: int = 0
    accuracy: float = -1.0
    loss: float = math.inf
    weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def offer(self, epoch: int, accuracy: float, loss: float, module: nn.Module) -> None:
        if (accuracy, -loss) > (self.accuracy, -self.loss):
            self.epoch, self.accuracy, self.loss = epoch, accuracy, loss
            self.weights = copy.deepcopy(module.state_dict())


def train(
    config: TrainConfig | str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    overrides: Mapping[str, Any] | None = None,
    force: bool = False,
    progress: Progress = quiet,
) -> TrainResult:
    """Train a model and write the best weights as a checkpoint to the folder `output`.

    config: a TrainConfig, a .toml file or the name of one that ships; overrides: values by key
    ('epochs', 'model.width'). The same configuration and versions give the same weights bit
    for bit, if `threads` is set or the machine has as many. Test images are looked at once, when
    training is over.

    Raises InputError for a configuration, DataError for a dataset and OutputError for an output
    that cannot be used, all before training. A loss that is not finite is a DataError, and an
    interrupt a KeyboardInterrupt; the best weights up to then are saved first.
    """
    if not isinstance(config, TrainConfig):
        config = load_config(config, overrides)
    elif overrides:
        config = TrainConfig.from_dict(config.to_json() | dict(overrides))
    output = Path(output)
    check_output(output, force=force)
    started = time.perf_counter()
    progress("reading the data", 0, 0)
    run = _Run(config)

    def save(*, complete: bool) -> dict[str, Any]:
        metrics = run.metrics(complete=complete)
        write_checkpoint(
            output,
            family=run.family,
            task=config.task,
            config=run.model_config,
            data=run.data,
            weights=run.best.weights,
            metrics=metrics,
            force=force,
        )
        return metrics

    with _deterministic(config.seed, config.threads):
        try:
            run.fit(progress)
        except (KeyboardInterrupt, DataError):
            if run.best.weights:
                save(complete=False)
            raise
        return TrainResult(output, save(complete=True), time.perf_counter() - started)


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


class _Run:
    """What a run holds: data, module, optimizer, curve, best weights."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.family = family_named(config.family)
        self.family.check_task(config.task)
        if config.task != TASK:
            raise InputError(f"training knows the task {TASK}, got '{config.task}'")
        self.data = _read(config)
        self.model_config = model_config(self.family, config.model, self.data)
        self.curve: list[dict[str, Any]] = []
        self.best = _Best()

    def fit(self, progress: Progress) -> None:
        """Train over all epochs, keeping the best weights."""
        config, data = self.config, self.data
        self.module = self._build().train()
        optimizer = _optimizer(self.module, config)
        random = np.random.default_rng(config.seed)
        steps = config.epochs * math.ceil(len(data.train) / config.batch)
        step = 0
        for epoch in range(1, config.epochs + 1):
            losses = []
            for pixels, labels in batches(
                data.train, config.batch, random, lambda x: shifted(x, config.shift, random)
            ):
                rate = config.learning_rate * warmup_cosine(step, steps, config.warmup)
                step += 1
                losses.append(self._step(optimizer, rate, pixels, labels, step, epoch))
                progress(self._says(epoch), step, steps)
            accuracy, loss = evaluate(self.module, data.validation)
            self._check_finite(step, epoch, **{"validation loss": loss})
            self.best.offer(epoch, accuracy, loss, self.module)
            self.curve.append(
                {
                    "epoch": epoch,
                    "step": step,
                    "learning_rate": rate,
                    "loss": float(np.mean(losses)),
                    "validation_loss": loss,
                    "validation_accuracy": accuracy,
                }
            )
        progress(self._says(config.epochs), steps, steps)

    def _build(self) -> nn.Module:
        """A fresh module that has answered once: what cannot be is said before training."""
        pixels = torch.from_numpy(pixel_values(self.data.train.images[:2]))
        try:
            module = self.family.build(self.model_config, self.config.task).eval()
            with torch.inference_mode():
                module(pixels)
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"{self.model_config} does not make a {self.family.name} that answers: {error}"
            ) from error
        initialize(module)
        return module

    def _step(
        self,
        optimizer: torch.optim.Optimizer,
        rate: float,
        pixels: np.ndarray[Any, Any],
        labels: np.ndarray[Any, Any],
        step: int,
        epoch: int,
    ) -> float:
        for group in optimizer.param_groups:
            group["lr"] = rate
        logits = self.module(torch.from_numpy(pixels))["logits"]
        loss = functional.cross_entropy(
            logits, torch.from_numpy(labels), label_smoothing=self.config.label_smoothing
        )
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.config.clip)
        value = float(loss.detach())
        self._check_finite(step, epoch, loss=value, gradient=float(norm))
        optimizer.step()
        return value

    def _check_finite(self, step: int, epoch: int, **values: float) -> None:
        strange = [f"the {name} is {v}" for name, v in values.items() if not math.isfinite(v)]
        if strange:
            kept = f"epoch {self.best.epoch} is kept" if self.best.weights else "nothing is kept"
            raise DataError(
                f"training diverged at step {step} (epoch {epoch}): {' and '.join(strange)}; "
                f"{kept}. Try a learning_rate below {self.config.learning_rate:g}"
            )

    def _says(self, epoch: int) -> str:
        said = f"epoch {epoch}/{self.config.epochs}"
        if not self.curve:
            return said
        last = self.curve[-1]
        return f"{said}, loss {last['loss']:.3f}, accuracy {last['validation_accuracy']:.1%}"

    def metrics(self, *, complete: bool) -> dict[str, Any]:
        """The content of metrics.json, for the best weights."""
        self.module.load_state_dict(self.best.weights)
        accuracy, loss = evaluate(self.module, self.data.test)
        return {
            "complete": complete,
            "test_accuracy": accuracy,
            "test_loss": loss,
            "validation_accuracy": self.best.accuracy,
            "validation_loss": self.best.loss,
            "best_epoch": self.best.epoch,
            "parameters": sum(p.numel() for p in self.module.parameters()),
            "data": {
                "name": self.data.name,
                "fingerprint": self.data.fingerprint,
                "train": len(self.data.train),
                "validation": len(self.data.validation),
                "test": len(self.data.test),
            },
            "config": self.config.to_json(),
            "versions": {"torch": torch.__version__, "numpy": np.__version__},
            "curve": self.curve,
        }


def evaluate(module: nn.Module, split: Split) -> tuple[float, float]:
    """Accuracy and mean loss (cross entropy, without smoothing) over a split as it stands."""
    training = module.training
    module.eval()
    right, loss = 0, 0.0
    with torch.inference_mode():
        for pixels, labels in in_order(split):
            logits, wanted = module(torch.from_numpy(pixels))["logits"], torch.from_numpy(labels)
            right += int((logits.argmax(-1) == wanted).sum())
            loss += float(functional.cross_entropy(logits, wanted, reduction="sum"))
    module.train(training)
    return right / len(split), loss / len(split)


def model_config(family: Family, given: Mapping[str, Any], data: Dataset) -> Any:
    """The family's config: what was given and what follows from the data, which must agree."""
    known = [f.name for f in fields(family.config)]
    follows = {
        "image_size": (data.height, data.width),
        "channels": data.channels,
        "labels": len(data.labels),
    }
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    problems = [f"unknown key 'model.{key}'" for key in values if key not in known]
    if problems:
        problems.append(f"{family.name} has {', '.join(known)}")
    problems += [
        f"model.{key} is {values[key]}, but {data.name} has {value}"
        for key, value in follows.items()
        if key in values and values[key] != value
    ]
    if problems:
        raise InputError(listed(problems))
    try:
        return family.config(**{k: v for k, v in follows.items() if k in known} | values)
    except (TypeError, ValueError) as error:
        raise InputError(f"the model table does not make a {family.name}: {error}") from error


def _read(config: TrainConfig) -> Dataset:
    size = config.model.get("image_size")
    pair = tuple(size) if isinstance(size, list | tuple) and len(size) == 2 else None
    channels = config.model.get("channels", 3)
    return load_dataset(config.dataset, pair, channels)


def _optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """AdamW; biases, norms and other vectors are not decayed."""
    matrices = [p for p in module.parameters() if p.ndim > 1]
    vectors = [p for p in module.parameters() if p.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98))
