"""A 64-bit ARM CPU with dot products, emulated: phones since 2018, Apple, Graviton."""

from __future__ import annotations

from edgetfm.runtime.devices._kinds import emulated_arm

DEVICE = emulated_arm("arm64", "64-bit ARM CPUs with dot products", "neoverse-n1")
