"""An NVIDIA GPU, through CUDA and cuDNN."""

from __future__ import annotations

import ctypes
import sys

from edgetfm.errors import MissingExtra
from edgetfm.runtime._ort import ort
from edgetfm.runtime.devices._device import Device

_PROVIDER = "CUDAExecutionProvider"


def _missing() -> str | None:
    try:
        providers = ort().get_available_providers()
    except MissingExtra:
        providers = []
    if _PROVIDER not in providers:
        return (
            "an onnxruntime built for CUDA: pip uninstall onnxruntime, "
            "then pip install 'edgetfm[gpu]' (the two install the same module)"
        )
    count = _gpu_count()
    if count is None:
        return "the NVIDIA driver (libcuda is not there)"
    return None if count else "an NVIDIA GPU (the driver lists none)"


def _gpu_count() -> int | None:
    """How many GPUs the driver lists, None without a driver."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def _prepare() -> None:
    # Finds the CUDA and cuDNN libraries that pip put into site-packages/nvidia.
    ort().preload_dlls()


DEVICE = Device(
    name="cuda",
    what="an NVIDIA GPU of this machine",
    target="cuda",
    provider=_PROVIDER,
    extra="gpu",
    missing=_missing,
    prepare=_prepare,
    # TF32 rounds float32 to 10 bits of mantissa: a float32 graph would miss its parity bound.
    options={"use_tf32": "0"},
)
