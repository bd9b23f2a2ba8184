"""Bundles run with numpy and onnxruntime: no torch, no transformers.

`load(path).run(...)` takes arrays; `pipeline(path)(...)` takes text and images.
"""

from __future__ import annotations

from edgetfm.runtime.model import Model, load

__all__ = ["Model", "load"]
