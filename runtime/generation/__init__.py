"""Text generation: what to pick, how to say it, and the loop over a graph whose cache stays put."""

from __future__ import annotations
