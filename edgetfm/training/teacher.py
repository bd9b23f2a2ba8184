"""Learning from another model's answers: what it holds likely says more than the one that is right.

Hinton et al. 2015, https://arxiv.org/abs/1503.02531.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgetfm.errors import InputError, listed
from edgetfm.training.config import TrainConfig
from edgetfm.training.objectives import IGNORED

TEMPERATURE, WEIGHT = 2.0, 0.5


class Teacher:
    """A trained model, and how much its answers count."""

    def __init__(self, config: TrainConfig, student: Any) -> None:
        """`student`: its family's config; InputError if both cannot be asked the same."""
        from edgetfm.sources import open_source

        said = config.teacher
        source = open_source(said["source"], task=config.task)
        self.name = str(said["source"])
        apart = [
            f"{name} is {theirs}, the student's {mine}"
            for name in ("vocabulary", "labels", "image_size", "channels")
            if (theirs := getattr(source.config, name, 0)) != (mine := getattr(student, name, 0))
        ]
        if apart:
            raise InputError(
                f"{self.name} cannot teach this student, give it the teacher's tokenizer by "
                f"tokenizer.path and the same data:\n{listed(apart)}"
            )
        self.inputs = {spec.name for spec in source.signature.inputs}
        self.module: nn.Module = source.module().eval().requires_grad_(False)
        self.temperature = float(said.get("temperature", TEMPERATURE))
        self.weight = float(said.get("weight", WEIGHT))

    def to(self, device: Any) -> None:
        """Move to where the student is."""
        self.module.to(device)

    def answer(self, feeds: dict[str, Tensor]) -> Tensor:
        """The teacher's logits; it is asked what the student is asked."""
        with torch.no_grad():
            asked = {name: tensor for name, tensor in feeds.items() if name in self.inputs}
            logits: Tensor = self.module(**asked)["logits"]
        return logits

    def summed_loss(self, logits: Tensor, taught: Tensor, targets: Tensor) -> Tensor:
        """The KL divergence from the teacher's softened answers, summed over what counts.

        Times the square of the temperature, by which softening makes its gradients smaller.
        """
        counts = targets.flatten() != IGNORED
        ours, theirs = (
            functional.log_softmax(x.flatten(0, -2)[counts].float() / self.temperature, dim=-1)
            for x in (logits, taught)
        )
        apart = functional.kl_div(ours, theirs, reduction="sum", log_target=True)
        return apart * self.temperature**2
