"""The senses that the adapter knows."""

from __future__ import annotations

from edgetfm.sources.adapter._sense import Answer, SenseRow
from edgetfm.sources.adapter.audio import AUDIO
from edgetfm.sources.adapter.image import IMAGE
from edgetfm.sources.adapter.text import TEXT
from edgetfm.task import OTHER
from edgetfm.tasks import TASKS

SENSE_ROWS: dict[str, SenseRow] = {"text": TEXT, "image": IMAGE, "audio": AUDIO}

ANSWERS: dict[str, Answer] = {
    task: answer for row in SENSE_ROWS.values() for task, answer in row.answers.items()
}
"""Task -> its outputs; those of other tasks are the model's own by name."""

ADAPTED_TASKS = tuple(
    name
    for name, task in TASKS.items()
    if name != OTHER and not task.generates and {*task.senses} <= {*SENSE_ROWS}
)
"""The tasks whose every sense has a row."""
