"""Which task a model does, and whether its inputs are those of the task's senses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgetfm import assets
from edgetfm.errors import SourceError
from edgetfm.sources.adapter._sense import parameters
from edgetfm.sources.adapter.table import ADAPTED_TASKS, SENSE_ROWS
from edgetfm.tasks import TASKS

_OTHERS = (
    "bbox",
    "xpath_tags_seq",
    "visual_embeds",
    "visual_feats",
    "pixel_values",
    "input_values",
    "input_features",
)
"""Inputs of senses that a task does not have; no model of a single sense takes one."""


def task_of_head(raw: Mapping[str, Any], folder: Path) -> str | None:
    """The task of the head that the config names; None without a head."""
    head = "" if (folder / "modules.json").is_file() else assets.read_head(raw)
    if not head:
        return None
    if head not in assets.HEADS:
        raise SourceError(
            f"{folder} is a {raw['architectures'][0]}, a head that edgetfm does not know; "
            f"choose one with --task: {', '.join(ADAPTED_TASKS)}"
        )
    return assets.HEADS[head]


def task_of_body(model: Any) -> str:
    """The task of a model without a head."""
    from transformers.models.auto import modeling_auto as auto

    if type(model).__name__ in auto.MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES.values():
        return "zero-shot-image-classification"
    takes = getattr(model, "main_input_name", "nothing")
    rows = SENSE_ROWS.values()
    known = {main: row.body for row in rows for main in (row.main, row.other_main) if main}
    if takes not in known:
        raise SourceError(
            f"{type(model).__name__} takes {takes}; edgetfm takes {' and '.join(known)}"
        )
    return known[takes]


def check_senses(model: Any, task: str) -> None:
    """Raise a SourceError if a model does not take what the task's senses make, or takes more."""
    senses, takes, kind = TASKS[task].senses, parameters(model), type(model).__name__
    mains = [SENSE_ROWS[sense].main_of(takes) for sense in senses]
    if absent := [main for main in mains if main not in takes]:
        raise SourceError(f"{kind} does not do {task}: it takes no {' and no '.join(absent)}")
    others = {*_OTHERS, "input_ids"} - {*mains}
    if found := sorted(others & takes.keys()):
        raise SourceError(
            f"{kind} takes {', '.join(found)} beside {' and '.join(mains)}: edgetfm makes nothing "
            f"else for {task}"
        )
    for sense in senses:
        SENSE_ROWS[sense].refuse(model)
