"""What a search has found out, kept beside the output until it is done: an interrupted one goes on.

Answers to questions that took long are written down at once, under a key that says what they hold
for: another model, other data or another version starts anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from pathlib import Path
from typing import Any

from edgetfm.files import remove, write_atomic

EVERY = 5.0
"""Seconds between writes at the least: a small model's questions take less than the write."""


class Journal:
    """Answers by question, in a JSON file; without a path they live as long as the process."""

    def __init__(self, path: Path | None = None, **about: Any) -> None:
        """`about`: everything the answers depend on, as JSON."""
        self._path = path
        text = json.dumps(about, sort_keys=True)
        self._key = hashlib.sha256(text.encode()).hexdigest()
        self._answers: dict[str, Any] = self._read()
        self._written = time.monotonic()
        self.found = len(self._answers)

    def _read(self) -> dict[str, Any]:
        """The answers of an earlier run; none if they are about something else or damaged."""
        if self._path is None or not self._path.is_file():
            return {}
        with contextlib.suppress(OSError, ValueError, RecursionError):
            saved = json.loads(self._path.read_text(encoding="utf-8"))
            if isinstance(saved, dict) and saved.get("key") == self._key:
                answers = saved.get("answers")
                return answers if isinstance(answers, dict) else {}
        return {}

    def get(self, question: str) -> Any:
        """The answer, None if there is none yet."""
        return self._answers.get(question)

    def put(self, question: str, answer: Any) -> None:
        """Write an answer down."""
        self._answers[question] = answer
        if time.monotonic() - self._written >= EVERY:
            self.save()

    def save(self) -> None:
        """Put what is known on disk."""
        if self._path is not None and self._answers:
            content = {"key": self._key, "answers": self._answers}
            write_atomic(self._path, json.dumps(content).encode())
        self._written = time.monotonic()

    def done(self) -> None:
        """The search has ended: what it wrote down is of no more use."""
        if self._path is not None:
            remove(self._path)
