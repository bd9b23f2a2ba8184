"""An older 64-bit ARM CPU without dot products, emulated: Cortex-A53, A57, A72."""

from __future__ import annotations

from edgetfm.runtime.devices._kinds import emulated_arm

DEVICE = emulated_arm("arm64-a53", "64-bit ARM CPUs without dot products", "cortex-a53")
