"""Where the nodes of a session went, and which of them fell back to the CPU."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

from edgetfm.errors import DeviceError
from edgetfm.runtime.devices import Device

CPU = "CPUExecutionProvider"


def placed(session: Any, device: Device) -> tuple[dict[str, int], dict[str, int]]:
    """Nodes by provider, and by operator those that fell back from `device` whatever they compute.

    What `get_providers` lists was asked for, not used: the assignment is what was done. What may
    be arithmetic of shapes is no fallback yet: see FirstCall.
    """
    from edgetfm.runtime.remote.runner import SHAPE_OPS

    placement: Counter[str] = Counter()
    fallen_back: Counter[str] = Counter()
    shapes: Counter[str] = Counter()
    for subgraph in session.get_provider_graph_assignment_info():
        for node in subgraph.get_nodes():
            placement[subgraph.ep_name] += 1
            if subgraph.ep_name != device.provider:
                (shapes if node.op_type in SHAPE_OPS else fallen_back)[node.op_type] += 1
    if placement and device.provider not in placement:
        fallen_back += shapes
    return dict(placement.most_common()), dict(fallen_back)


class FirstCall:
    """The first call of a session, which onnxruntime profiles into `folder`.

    Only a call tells the types and sizes of what nodes on the CPU give, and so whether they
    compute shapes, which onnxruntime prefers the CPU for. allowed: whether they may do more.
    """

    def __init__(self, *, allowed: bool) -> None:
        self.allowed = allowed
        self._problem: str | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="edgetfm-"))
        self._remove = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)

    def fallen_back(self, session: Any) -> dict[str, int]:
        """By operator, the nodes that only looked like arithmetic of shapes; {} from then on."""
        from edgetfm.runtime.remote.runner import events, not_of_shapes

        if not self._remove.alive:
            return {}
        if self._problem is None:
            try:
                found = not_of_shapes(events(session))
            except (OSError, ValueError, KeyError) as error:
                self._problem = f"{type(error).__name__}: {error}"
        if self._problem is not None:  # a profile is written once, so no later call tells more
            raise DeviceError(
                f"what onnxruntime wrote of the first call cannot be read ({self._problem}), so "
                f"nothing is known of what fell back to the CPU: is there room in {self.folder}?"
            )
        self._remove()
        return found


def fell_back(path: Path, device: Device, nodes: dict[str, int]) -> DeviceError:
    """The error that names nodes which are not the device's."""
    what = ", ".join(f"{count} {op}" for op, count in sorted(nodes.items()))
    return DeviceError(
        f"{path.name} does not run on {device.name} alone, these nodes fell back to the CPU: {what}"
        "; allow the fallback, or use another variant or device"
    )
