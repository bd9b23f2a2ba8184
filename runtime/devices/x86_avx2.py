"""An x86 CPU with AVX2 and without VNNI, emulated: there sums of two int8 products may overflow."""

from __future__ import annotations

from edgetfm.runtime.devices._kinds import emulated_x86

DEVICE = emulated_x86("x86-avx2", "x86 CPUs with AVX2 and without VNNI")
