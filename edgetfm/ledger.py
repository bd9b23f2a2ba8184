"""The ledger: every step that was compared, what it measured and whether its bounds hold."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from edgetfm.budget import Budget, is_bound
from edgetfm.parity import Comparison, Measures

FEW_MISS = "as shipped, these few cases miss the budget"
"""How the note of a rung begins that is held to no bound because of it: people are told."""


@dataclass(frozen=True)
class Rung:
    """One step of the ledger: `name` was compared with `against` over some cases.

    bound: a Budget on the outputs `bound_on` (commas between; '' is every output). A rung without
    a bound is information. missed: the bounds that do not hold. note: why a bound is what it is,
    or the first node that diverges. metric: the task's own metric, where labelled data was given:
    {"name", "value", "reference", "items", ...}; such a rung has no measures.
    """

    name: str
    against: str
    measures: dict[str, Measures]
    bound: str = ""
    bound_on: str = ""
    missed: tuple[str, ...] = ()
    note: str = ""
    metric: dict[str, Any] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every bound holds."""
        return not self.missed

    def to_json(self) -> dict[str, Any]:
        """The form it has in parity.json."""
        data = asdict(self) | {"passed": self.passed, "missed": list(self.missed)}
        return data | {"measures": {k: m.to_json() for k, m in self.measures.items()}}


def rung(
    name: str,
    against: str,
    comparison: Comparison,
    *,
    bound: str = "",
    bound_on: str = "",
    note: str = "",
) -> Rung:
    """Measure a comparison and hold it against its bound; what measured nothing misses it."""
    measures = comparison.measures()
    missed = []
    if bound:
        budget = Budget.parse(bound)
        bound_outputs = [o.name for o in comparison.outputs if is_bound(o.name, bound_on)]
        bound_outputs = bound_outputs or [bound_on]
        held = {name: measures[name] for name in bound_outputs if name in measures}
        missed += [f"{name}: nothing was compared" for name in bound_outputs if name not in held]
        for output, measured in held.items():
            missed += [f"{output}: {miss}" for miss in budget.misses(measured)]
        missed += [
            f"no output of {', '.join(bound_outputs)} has the measure {name}"
            for name, _ in budget.bounds
            if held and all(getattr(m, name) is None for m in held.values())
        ]
    return Rung(name, against, measures, bound, bound_on, tuple(missed), note)


@dataclass
class Ledger:
    """All rungs of a bundle, from PyTorch down to each device.

    devices: where it was run beside the exporting CPU, as edgetfm.workflow.matrix writes them;
    `error` is why one could not, and None where it could.
    """

    rungs: list[Rung] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=dict)
    devices: list[dict[str, Any]] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether every rung holds, there is one or only to look at, and no device failed."""
        looked_at = any(d.get("proves") == "static" for d in self.devices)
        held = all(r.passed for r in self.rungs) and (bool(self.rungs) or looked_at)
        return held and not self.refusals

    @property
    def refusals(self) -> list[str]:
        """Why devices could not run it."""
        return [str(d["error"]) for d in self.devices if d.get("error")]

    @property
    def failures(self) -> list[str]:
        """Every bound that does not hold, with its rung, and every device that failed."""
        return self.refusals + [
            f"{r.name} against {r.against}: {miss}" + (f" ({r.note})" if r.note else "")
            for r in self.rungs
            for miss in r.missed
        ]

    def to_json(self) -> dict[str, Any]:
        """The content of parity.json."""
        return {
            "schema": 1,
            "passed": self.passed,
            "machine": self.machine,
            "rungs": [r.to_json() for r in self.rungs],
        } | ({"devices": self.devices} if self.devices else {})
