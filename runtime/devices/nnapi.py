"""Android's NNAPI, by what its provider would take of a graph: nothing is run."""

from __future__ import annotations

from edgetfm.runtime.devices._kinds import predicted

DEVICE = predicted(
    "nnapi",
    "Android's NNAPI: which nodes it would take",
    "NnapiExecutionProvider",
    table="nnapi",
    target="nnapi",
)
