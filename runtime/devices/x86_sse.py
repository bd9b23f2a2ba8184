"""An x86 CPU without AVX, emulated: onnxruntime's oldest kernels."""

from __future__ import annotations

from edgetfm.runtime.devices._kinds import emulated_x86

DEVICE = emulated_x86("x86-sse", "x86 CPUs without AVX")
