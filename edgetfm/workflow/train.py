"""A config in, a checkpoint out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgetfm.progress import Progress, quiet
from edgetfm.search.goal import AnyPath

if TYPE_CHECKING:
    from edgetfm.training import TrainResult


def train_model(
    config: AnyPath,
    output: AnyPath,
    *,
    overrides: Mapping[str, Any] | None = None,
    force: bool = False,
    resume: bool = False,
    progress: Progress = quiet,
) -> TrainResult:
    """Train a model from a TOML config (a path, or the name of one that ships).

    resume: go on with the run in `output` that was cut off.
    """
    from edgetfm.training import train

    return train(
        str(config),
        Path(output),
        overrides=overrides,
        force=force,
        resume=resume,
        progress=progress,
    )
