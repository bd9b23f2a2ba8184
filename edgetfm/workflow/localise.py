"""The node at which a device parts ways with this machine's CPU."""

from __future__ import annotations

import tempfile
from pathlib import Path

from edgetfm.bundle import Bundle
from edgetfm.errors import DeviceError
from edgetfm.runtime.devices import Device
from edgetfm.runtime.divergence import first_past, float_values, with_values
from edgetfm.runtime.remote.replay import replay
from edgetfm.runtime.session import make_session
from edgetfm.signature import Feeds
from edgetfm.stages import MODEL

LIMIT = 0.01
"""The relative error of a value past which a device computes something else: kernels that sum in
another order stay below 0.001, roundings of int8 that flip below 0.005."""


def diverging_node(bundle: Bundle, precision: str, device: Device, case: Feeds) -> str:
    """In words, the first node whose answer to a case is another on the device than here.

    Both run the graph as it was written, unoptimized, with every float value as an output. Says
    why not where that cannot be done.
    """
    graph, signatures = bundle.graph(precision), bundle.manifest.components
    if not isinstance(graph, Path) or MODEL not in signatures:
        return "of two graphs no node is looked for"
    signature = signatures[MODEL].signature
    try:
        with tempfile.TemporaryDirectory(prefix="edgetfm-") as place:
            copy = Path(place) / "values.onnx"
            values = float_values(graph)
            names = [name for name, _ in values]
            with_values(graph, names, copy)
            here = make_session(copy, optimize=False)
            there = replay(
                copy, {MODEL: signature}, [case], device, optimize=False, outputs=names,
                allow_fallback=True,
            )  # fmt: skip
            wanted, got = here.run(case, names), there.answers[0]
    except (DeviceError, ImportError) as error:
        return f"the node could not be found: {error}"
    found = first_past(((node, got[name], wanted[name]) for name, node in values), LIMIT)
    return str(found) if found else f"no node differs by more than {LIMIT} unoptimized"
