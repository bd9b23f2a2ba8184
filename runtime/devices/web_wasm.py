"""Browsers and Node, on the CPU through WebAssembly."""

from __future__ import annotations

from edgetfm.runtime.devices._kinds import on_the_web
from edgetfm.runtime.remote import web

DEVICE = on_the_web(
    "web-wasm",
    "WebAssembly, as in a browser",
    target="x86-sse",
    proves="measured",
    reach="Node",
    answer=web.in_node,
    browser=False,
)
