"""Browsers with WebGPU, in a headless Chromium whose GPU is drawn by the CPU."""

from __future__ import annotations

from edgetfm.runtime.devices._kinds import on_the_web
from edgetfm.runtime.remote import web

DEVICE = on_the_web(
    "web-webgpu",
    "WebGPU in a browser",
    target="cuda",
    proves="emulated",
    reach="headless Chromium",
    answer=web.in_browser,
    browser=True,
)
