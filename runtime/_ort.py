"""onnxruntime, imported once, in one place, with its telemetry off."""

from __future__ import annotations

import os
from typing import Any

from edgetfm.errors import MissingExtra


def ort() -> Any:
    """The module onnxruntime; MissingExtra says which extras bring it.

    onnxruntime 1.29 and later read ORT_DISABLE_TELEMETRY when they are imported, so it is set
    here, before. A value somebody chose is left as it is.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtra("cpu", "running a model") from error
    return onnxruntime
