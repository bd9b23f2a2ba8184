"""One run: the epochs, the steps of each, and what they come to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import Field, asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import gather_object
from torch import nn

from edgetfm.errors import DataError, InputError, in_short, listed
from edgetfm.layers.experts import MixtureOfExperts, balance_loss
from edgetfm.models import family_named
from edgetfm.models._family import Family
from edgetfm.progress import Progress
from edgetfm.training.config import TrainConfig
from edgetfm.training.data.parts import Part
from edgetfm.training.initialize import initialize
from edgetfm.training.losses import right_answers, summed_loss
from edgetfm.training.objectives import Batch, Objective, OwnLoss, OwnMeasure, objective_of
from edgetfm.training.optimizer import freeze, make_optimizer
from edgetfm.training.resuming import Best, Position, read_state, state_files
from edgetfm.training.schedules import SCHEDULES
from edgetfm.training.start import Start, read_start
from edgetfm.training.teacher import Teacher
from edgetfm.training.thrift import checkpoint_layers

EVALUATED = 256
"""Rows that are evaluated together, unless a row is long."""
TOGETHER = 50
"""Batches that are made of neighbours in length, where rows have lengths."""
POINTS = 200
"""Points of the curve of losses."""

LENGTHS = ("context", "positions", "segment")
"""The fields of a config that say how long a text may be."""

Stop = Callable[[], bool]
"""Whether someone asked the run to stop."""


class Run:
    """What a run holds: data, module, optimizer, where it stands, best weights."""

    def __init__(self, config: TrainConfig) -> None:
        self.family = family_named(config.family)
        self.family.check_task(config.task)
        self.start = read_start(config.start, self.family, config.task) if config.start else None
        self.config = config = _as_started(config, self.start)
        self.objective = objective_of(config)
        self.model_config = model_config(self.family, config, self.objective, self.start)
        self.teacher = Teacher(config, self.model_config) if config.teacher else None
        self.inputs = {spec.name for spec in self.family.inputs(self.model_config, config.task)}
        self.position, self.best = Position(), Best()
        self.per_epoch = math.ceil(self.objective.data.train / config.batch)
        self.steps = config.epochs * self.per_epoch
        self.accelerator = Accelerator(
            mixed_precision={"fp32": "no"}.get(config.precision, config.precision),
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )

    @property
    def is_main(self) -> bool:
        """Whether this process writes and speaks for all of them."""
        return bool(self.accelerator.is_main_process)

    def prepare(self, resume_from: Path | None) -> None:
        """Make the module and its optimizer, as they were where a run goes on."""
        self.plain = self._build().train()
        has_experts = any(isinstance(p, MixtureOfExperts) for p in self.plain.modules())
        self.balance = getattr(self.model_config, "balance", 0.0) if has_experts else 0.0
        freeze(self.plain, self.config.freeze)
        if self.config.gradient_checkpointing:
            checkpoint_layers(self.plain)
        optimizer = make_optimizer(self.plain, self.config)
        if resume_from is not None:
            saved = read_state(resume_from, self.config, self.objective.data.fingerprint)
            saved.restore(self.plain, optimizer)
            self.position, self.best = saved.position, saved.best
        self.module, self.optimizer = self.accelerator.prepare(self.plain, optimizer)
        if self.teacher is not None:
            self.teacher.to(self.accelerator.device)

    def fit(self, progress: Progress, save: Callable[[], object], stop: Stop) -> None:
        """Train over all epochs, keeping the best weights; `save` is called along the way."""
        at, every = self.position, self.config.save_every
        while at.epoch <= self.config.epochs:
            for index, rows in list(enumerate(self._batches(at.epoch)))[at.batches :]:
                self._step(rows, index, stop)
                progress(self._says(), at.step, self.steps)
                if every and at.step % every == 0:
                    save()
            self._end_epoch()
            if at.epoch <= self.config.epochs:
                save()
        progress(self._says(), self.steps, self.steps)

    def _build(self) -> nn.Module:
        """A fresh module that has answered once: what cannot be is said before training."""
        batch = self.objective.batch("train", np.arange(min(2, self.objective.data.train)), None)
        try:
            module = self.family.build(self.model_config, self.config.task).eval()
            with torch.inference_mode():
                module(**self._tensors(batch))
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"this configuration makes no {self.family.name} that answers: {in_short(error)}"
            ) from error
        initialize(module)
        self.fresh = self.start.fill(module) if self.start else ()
        return module

    def _tensors(self, batch: Batch) -> dict[str, torch.Tensor]:
        """What of a batch the family takes."""
        return {k: torch.from_numpy(v) for k, v in batch.feeds.items() if k in self.inputs}

    def _batches(self, epoch: int) -> list[np.ndarray[Any, Any]]:
        """The rows of each batch of an epoch; rows of about one length together."""
        random = np.random.default_rng([self.config.seed, epoch])
        size = self.config.batch
        order = random.permutation(self.objective.data.train)
        lengths = self.objective.lengths("train")
        if lengths is None:
            return [order[i : i + size] for i in range(0, len(order), size)]
        chunks = (order[i : i + size * TOGETHER] for i in range(0, len(order), size * TOGETHER))
        sorted_ = np.concatenate([c[np.argsort(lengths[c], kind="stable")] for c in chunks])
        batches = [sorted_[i : i + size] for i in range(0, len(order), size)]
        return [batches[i] for i in random.permutation(len(batches))]

    def _step(self, rows: np.ndarray[Any, Any], index: int, stop: Stop) -> None:
        config, at = self.config, self.position
        random = np.random.default_rng([config.seed, at.epoch, index])
        batch = self.objective.batch("train", rows, random)
        self._seed()
        factor = SCHEDULES[config.schedule](at.step, self.steps, config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate * factor * group["scale"]
        processes = self.accelerator.num_processes
        # Processes average their gradients: times their number it is the mean over all rows.
        loss = self._loss(batch.share(self.accelerator.process_index, processes))
        loss = loss / max(1, batch.count)
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(loss * processes)
        norm = self.accelerator.clip_grad_norm_(self.module.parameters(), config.clip)
        said = torch.tensor([float(loss.detach()), float(stop())], dtype=torch.float64)
        value, stopping = self.accelerator.reduce(said, "sum").tolist()
        gradient = {} if config.precision == "fp16" else {"gradient": float(norm)}
        self._check_finite(at.step + 1, loss=value, **gradient)
        self.optimizer.step()
        at.step, at.batches = at.step + 1, index + 1
        at.total, at.count = at.total + value * batch.count, at.count + batch.count
        if at.step % max(1, self.steps // POINTS) == 0:
            at.losses.append([at.step, value])
        if stopping:
            raise KeyboardInterrupt

    def _seed(self) -> None:
        """What dropout draws follows from the seed, the step and the process alone."""
        entropy = [self.config.seed, self.position.step, self.accelerator.process_index]
        torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> 1))

    def _loss(self, batch: Batch) -> torch.Tensor:
        """What is made small, summed over the answers of a batch."""
        outputs, targets, feeds = self._answer(batch)
        if isinstance(self.objective, OwnLoss):
            loss = self.objective.loss(outputs, batch)
        else:
            loss = self._entropy(outputs["logits"], targets, feeds)
        if balance := self.balance:
            masks = (feeds.get(f"{of}attention_mask") for of in ("", "decoder_"))
            uneven = balance_loss(self.plain, *masks)
            loss = loss + balance * uneven * batch.count
        return loss

    def _entropy(
        self, logits: torch.Tensor, targets: torch.Tensor, feeds: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """The cross entropy of the answers, and of the teacher's where there is one that counts."""
        loss = summed_loss(logits, targets, self.config.label_smoothing)
        if self.teacher is None or self.teacher.weight == 0:
            return loss
        weight, taught = self.teacher.weight, self.teacher.answer(feeds)
        learned = self.teacher.summed_loss(logits, taught, targets)
        return (1 - weight) * loss + weight * learned

    def _answer(
        self, batch: Batch
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor, dict[str, torch.Tensor]]:
        device = self.accelerator.device
        feeds = {name: tensor.to(device) for name, tensor in self._tensors(batch).items()}
        return self.module(**feeds), torch.from_numpy(batch.targets).to(device), feeds

    def _end_epoch(self) -> None:
        at = self.position
        score, loss = self.evaluate("validation")
        self._check_finite(at.step, **{"validation loss": loss})
        better = -loss if self.objective.measure == "perplexity" else score
        self.best.offer(at.epoch, better, loss, self.plain)
        at.curve.append(
            {
                "epoch": at.epoch,
                "step": at.step,
                "learning_rate": max(group["lr"] for group in self.optimizer.param_groups),
                "loss": at.total / max(1, at.count),
                "validation_loss": loss,
                f"validation_{self.objective.measure}": score,
            }
        )
        at.epoch, at.batches, at.total, at.count = at.epoch + 1, 0, 0.0, 0

    def evaluate(self, part: Part) -> tuple[float, float]:
        """The measure and the mean loss (cross entropy without smoothing, or its own) of a part."""
        training = self.module.training
        self.module.eval()
        sums, evidence = torch.zeros(3, dtype=torch.float64), list[Any]()
        index, processes = self.accelerator.process_index, self.accelerator.num_processes
        rows = np.arange(self.objective.data.count(part))
        size = EVALUATED if self.objective.measure == "accuracy" else self.config.batch
        with torch.inference_mode():
            for start in range(0, len(rows), size):
                batch = self.objective.batch(part, rows[start : start + size], None)
                mine = batch.share(index, processes)
                outputs, targets, _ = self._answer(mine)
                if isinstance(self.objective, OwnLoss):
                    right, loss = torch.zeros(()), self.objective.loss(outputs, mine)
                else:
                    logits = outputs["logits"]
                    right, loss = right_answers(logits, targets), summed_loss(logits, targets)
                # Where a process had no rows left, one stands in that has no answers.
                if isinstance(self.objective, OwnMeasure) and mine.count:
                    evidence += self.objective.judge(outputs, mine)
                sums += torch.tensor([float(right), float(loss), mine.count], dtype=torch.float64)
        self.module.train(training)
        right, loss, count = self.accelerator.reduce(sums, "sum").tolist()
        mean = loss / max(1.0, count)
        if isinstance(self.objective, OwnMeasure):
            return self.objective.score(gather_object(evidence)), mean
        if self.objective.measure == "accuracy":
            return right / max(1.0, count), mean
        return math.exp(min(mean, 700.0)), mean

    def _check_finite(self, step: int, **values: float) -> None:
        strange = [f"the {name} is {v}" for name, v in values.items() if not math.isfinite(v)]
        if strange:
            kept = f"epoch {self.best.epoch} is kept" if self.best.weights else "nothing is kept"
            raise DataError(
                f"training diverged at step {step} (epoch {self.position.epoch}): "
                f"{' and '.join(strange)}; {kept}. Try a learning_rate below "
                f"{self.config.learning_rate:g}"
            )

    def _says(self) -> str:
        at = self.position
        said = f"epoch {min(at.epoch, self.config.epochs)}/{self.config.epochs}"
        if not at.curve:
            return said
        last, measure = at.curve[-1], self.objective.measure
        score = last[f"validation_{measure}"]
        shown = f"{score:.2f}" if measure == "perplexity" else f"{score:.1%}"
        done = f"after epoch {len(at.curve)} loss {last['loss']:.3f}, {measure} {shown}"
        return f"{said}; {done}"

    def weights(self) -> Mapping[str, torch.Tensor]:
        """The best weights, or those of now where no epoch has ended."""
        return self.best.weights or self.plain.state_dict()

    def state_files(self) -> dict[str, bytes]:
        """What it takes to go on from here."""
        fingerprint = self.objective.data.fingerprint
        return state_files(
            self.config, fingerprint, self.position, self.best, self.plain, self.optimizer
        )

    def metrics(self, *, complete: bool) -> dict[str, Any]:
        """The content of metrics.json; the test part is looked at when a run is complete."""
        measure, data, judged = self.objective.measure, self.objective.data, {}
        if complete:
            self.plain.load_state_dict(self.best.weights)
            score, loss = self.evaluate("test")
            judged = {f"test_{measure}": score, "test_loss": loss}
        if self.best.weights:
            curve = self.position.curve[self.best.epoch - 1]
            judged |= {k: v for k, v in curve.items() if k.startswith("validation_")}
        return {
            "complete": complete,
            **judged,
            "best_epoch": self.best.epoch,
            "steps": self.position.step,
            "parameters": sum(p.numel() for p in self.plain.parameters()),
            "data": {k: v for k, v in asdict(data).items() if v != []},
            "config": self.config.to_json(),
            "versions": {"torch": torch.__version__, "numpy": np.__version__},
            "curve": self.position.curve,
            "losses": self.position.losses,
        }


def _as_started(config: TrainConfig, start: Start | None) -> TrainConfig:
    """Pictures are of the size that the model that is started from takes."""
    sizes = {
        name: getattr(start.config, name)
        for name in ("image_size", "channels")
        if start is not None and hasattr(start.config, name)
    }
    return replace(config, model={**sizes, **config.model}) if sizes else config


def _is_length(field: Field[Any]) -> bool:
    return field.name in LENGTHS and field.type in ("int", int)


def model_config(
    family: Family, config: TrainConfig, objective: Objective, start: Start | None = None
) -> Any:
    """The family's config: what was given and what follows from the data, which must agree.

    start: what is started from, whose config holds where nothing is said.
    """
    known = [f.name for f in fields(family.config)]
    follows = objective.follows()
    if start is not None:  # its table of words may have more rows than its tokenizer has tokens
        rows = getattr(start.config, "vocabulary", 0)
        follows = {k: v for k, v in follows.items() if k != "vocabulary" or v > rows}
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in config.model.items()}
    problems = [f"unknown key 'model.{key}'" for key in values if key not in known]
    if problems:
        problems.append(f"{family.name} has {', '.join(known)}")
    problems += [
        f"model.{key} is {values[key]}, but {objective.data.name} has {value}"
        for key, value in follows.items()
        if key in values and values[key] != value
    ]
    if problems:
        raise InputError(listed(problems))
    follows = {k: v for k, v in follows.items() if k in known}
    # The longest text a model can take is the longest row, unless it is to be longer.
    usual = {f.name: config.length for f in fields(family.config) if _is_length(f)}
    try:
        if start is not None:
            return replace(start.config, **follows, **values)
        return family.config(**usual | follows | values)
    except (TypeError, ValueError) as error:
        raise InputError(f"the model table does not make a {family.name}: {error}") from error
