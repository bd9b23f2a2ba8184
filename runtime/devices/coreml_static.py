"""Apple's Core ML, by what its provider would take of a graph: nothing is run."""

from __future__ import annotations

from edgetfm.runtime.devices._kinds import predicted

DEVICE = predicted(
    "coreml-static",
    "Apple's Core ML: which nodes it would take",
    "CoreMLExecutionProvider",
    table="coreml",
    target="",
)
