"""What is wanted of a quantization: which form, inside which budget, for which machines."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

from edgetfm.budget import Budget
from edgetfm.errors import InputError, listed
from edgetfm.quantize.recipes import FOR_DECODERS, RECIPES, Precision
from edgetfm.quantize.targets import TARGETS, liked, objections, parse_targets
from edgetfm.search.recipe_file import read_recipe
from edgetfm.task import Task

AnyPath = str | os.PathLike[str]

CHOICES = ("auto", *RECIPES, "none")
"""What `quantize` may be: the best form that is found, one recipe, or none."""

SAMPLES = 256
"""Calibration items that are looked at unless told otherwise."""

MINUTES = 10
"""How long a search goes on unless told otherwise."""


class Wanted(TypedDict, total=False):
    """The options of `export_model` and `quantize_bundle` that are about quantization.

    quantize: 'auto', one of the recipes ('int8', 'int8-weight', 'int4', 'int8-static', 'a16w8',
    'fp16'), or 'none'. max_drop: the budget, 'cosine:0.995' or '1%' of the metric that `evaluate`
    measures; None is the task's default. calibration: data like the inputs the model will meet,
    and samples: how many of its items are looked at. evaluate: labelled data, or
    'module:function'. target: CPU kinds that must get the same answers, 'x86-avx2,arm64'. recipe:
    a recipe's file, or a bundle, to make the same again. prefer: 'speed' or 'size'. time: how
    long to search, '90s', '10m' or '1h'.
    """

    quantize: str | None
    max_drop: str | None
    calibration: AnyPath | None
    samples: int | None
    evaluate: str | None
    target: str | None
    recipe: AnyPath | None
    prefer: str
    time: str | None


@dataclass(frozen=True)
class Goal:
    """The options, checked. `seconds`: how long a search may take."""

    quantize: str | None = None
    max_drop: str | None = None
    calibration: Path | None = None
    samples: int = SAMPLES
    evaluate: str | None = None
    targets: tuple[str, ...] = ()
    recipe: Path | None = None
    prefer: Literal["speed", "size"] = "speed"
    seconds: float = 60.0 * MINUTES

    @classmethod
    def of(cls, wanted: Wanted) -> Goal:
        """The goal; one InputError lists everything that cannot be."""
        problems: list[str] = []

        def checked(function: Any, *given: Any) -> Any:
            try:
                return function(*given)
            except InputError as error:
                problems.append(str(error))
                return None

        quantize, prefer = wanted.get("quantize"), wanted.get("prefer", "speed")
        budget, recipe = wanted.get("max_drop"), wanted.get("recipe")
        samples = wanted.get("samples")
        if quantize not in (None, *CHOICES):
            problems.append(f"quantize is '{quantize}', it can be {', '.join(CHOICES)}")
        if prefer not in ("speed", "size"):
            problems.append(f"prefer is '{prefer}', it can be speed or size")
        if samples is not None and samples < 4:
            problems.append(f"samples is {samples}, it must be 4 or more, better 100")
        parsed = None if budget is None else checked(Budget.parse, budget)
        if parsed is not None and parsed.drop is not None and wanted.get("evaluate") is None:
            problems.append(
                f"a budget of {budget} is a share of a metric: say with --eval of which"
            )
        targets = checked(_targets, wanted.get("target"))
        seconds = checked(parse_time, wanted.get("time") or f"{MINUTES}m")
        if recipe is not None and quantize not in (None, "auto"):
            problems.append(f"a recipe says what is made: leave out the precision {quantize}")
        if problems:
            raise InputError(listed(problems))
        calibration = wanted.get("calibration")
        return cls(
            quantize=None if quantize == "none" else quantize,
            max_drop=budget,
            calibration=None if calibration is None else Path(calibration),
            samples=SAMPLES if samples is None else samples,
            evaluate=wanted.get("evaluate"),
            targets=targets,
            recipe=None if recipe is None else Path(recipe),
            prefer=cast(Literal["speed", "size"], prefer),
            seconds=seconds,
        )

    @property
    def budget(self) -> str | None:
        """The budget that was asked for, or that of the recipe; None is the task's default."""
        if self.max_drop is None and self.recipe is not None:
            return read_recipe(self.recipe).budget
        return self.max_drop

    @property
    def quantizes(self) -> bool:
        """Whether anything but float32 is wanted."""
        return self.quantize is not None or self.recipe is not None

    @property
    def precision(self) -> Precision | None:
        """The one precision that is asked for, by its name or by a recipe."""
        if self.recipe is not None:
            return read_recipe(self.recipe).recipe.precision
        recipe = RECIPES.get(self.quantize or "")
        return None if recipe is None else recipe.precision

    def check(self, task: Task) -> None:
        """InputError for a form that a model of this task, or one of the targets, cannot have."""
        wanted, targets = self.precision, [TARGETS[name] for name in self.targets]
        problems = [] if wanted is None else objections(wanted, targets)
        if task.seq2seq:
            problems += _not_for_pairs(wanted)
        elif task.generates and self.quantizes:
            problems += _not_for_decoders(wanted, self.targets)
        if problems:
            raise InputError(listed(problems))


def _not_for_decoders(wanted: Precision | None, targets: tuple[str, ...]) -> list[str]:
    """Why a decoder cannot have this form, or for 'auto' (None) none that its targets like."""
    takes = ", ".join(FOR_DECODERS)
    if wanted is None:
        names = ", ".join(targets)
        suiting = set(liked(targets)) & set(FOR_DECODERS)
        return [] if suiting else [f"a decoder for {names} is not made: it can be {takes}"]
    if wanted in FOR_DECODERS:
        return []
    return [
        f"a decoder cannot be {wanted}, whose rounding of activations depends on how a text is "
        f"cut into steps: it can be {takes}"
    ]


FOR_PAIRS: tuple[Precision, ...] = ("int8", "int8-weight", "int4", "fp16")
"""What an encoder-decoder can be. Its int8 rounds a step's activations by their own range: how far
that is from the whole text's is measured, and bound by the budget."""


def _not_for_pairs(wanted: Precision | None) -> list[str]:
    """Why an encoder-decoder cannot have this form: ranges fixed beforehand suit no two graphs."""
    if wanted is None or wanted in FOR_PAIRS:
        return []
    return [f"an encoder-decoder cannot be {wanted}: it can be {', '.join(FOR_PAIRS)}"]


def _targets(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    return tuple(target.name for target in parse_targets(text))


def parse_time(text: str) -> float:
    """Seconds of '90', '90s', '10m' or '1.5h'; InputError for anything else."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip().lower())
    seconds = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]] if found else 0.0
    if not 0 < seconds < math.inf:
        raise InputError(f"'{text}' is no time: write 90s, 10m or 1h")
    return seconds
