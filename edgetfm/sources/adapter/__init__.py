"""Hugging Face encoders without a family of ours: transformers' own module, with our signatures.

A sense is a file here and a row in `table`: what its models take, and how that is made.
"""

from __future__ import annotations

from edgetfm.sources.adapter.encoders import IDLE
from edgetfm.sources.adapter.opening import open_adapted

__all__ = ["IDLE", "open_adapted"]
