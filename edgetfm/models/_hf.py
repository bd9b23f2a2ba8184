"""Reading a Hugging Face config, with everything that is wrong with it said at once."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from edgetfm.errors import NotHonoured, SourceError, listed


class Reader:
    """Takes values out of a config and collects the problems; `finish` raises them."""

    def __init__(self, config: Mapping[str, Any], family: str) -> None:
        self.config = config
        self.family = family
        self.model_type = str(config.get("model_type"))
        self.problems: list[str] = []
        self._lacks = 0

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number, 0 included."""
        value = self.config.get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            self.problems.append(f"{key} is {value!r}, expected a whole number")
            return 1
        return value

    def size(self, key: str) -> int:
        """A whole number that is at least 1."""
        value = self.whole(key)
        if value == 0:
            self.problems.append(f"{key} is 0, expected at least 1")
        return max(1, value)

    def number(self, key: str, default: float) -> float:
        """A finite number that is not negative."""
        value = self.config.get(key)
        if value is None:
            return default
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not 0 <= value < math.inf
        ):
            self.problems.append(f"{key} is {value!r}, expected a number")
            return default
        return float(value)

    def pair(self, key: str) -> tuple[int, int]:
        """A height and a width, or one number for both."""
        value = self.config.get(key)
        sides: list[Any] = list(value) if isinstance(value, list | tuple) else [value, value]
        if len(sides) != 2 or not all(isinstance(s, int) and s > 0 for s in sides):
            self.problems.append(f"{key} is {value!r}, expected a size or a height and a width")
            return 1, 1
        return int(sides[0]), int(sides[1])

    def one_of(self, key: str, allowed: Collection[str], default: str) -> str:
        """A name from a list."""
        value = self.config.get(key, default)
        if not isinstance(value, str) or value not in allowed:
            self._lacks += 1
            self.problems.append(
                f"{key} is {value!r}, which {self.family} does not have; "
                f"it has {', '.join(sorted(allowed))}"
            )
            return default
        return value

    def refuse(self, key: str, *, allowed: Collection[Any]) -> None:
        """Anything else than `allowed` is a problem."""
        value = self.config.get(key)
        if value not in allowed:
            known = ", ".join(repr(a) for a in allowed if a is not None)
            self._lacks += 1
            self.problems.append(f"{key} is {value!r}, but {self.family} only honours {known}")

    def divides(self, part: str, small: int, whole: str, large: int) -> None:
        """`small` must divide `large`."""
        if large % small:
            self.problems.append(f"{part} ({small}) does not divide {whole} ({large})")

    def take(self, part: Reader, where: str) -> None:
        """The problems of a part of the config that another reader was given."""
        self.problems += [f"{where}: {problem}" for problem in part.problems]
        self._lacks += part._lacks

    def finish(self) -> None:
        """Raise what was collected: NotHonoured if all of it is what the family does not do."""
        if self.problems:
            kind = NotHonoured if len(self.problems) == self._lacks else SourceError
            raise kind(
                f"the config of this {self.model_type} cannot be used:\n{listed(self.problems)}"
            )
