"""A bundle loaded to run on arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgetfm.bundle import Bundle, open_bundle
from edgetfm.errors import InputError
from edgetfm.runtime.encoder_decoder import EncoderDecoder, open_graph
from edgetfm.runtime.session import Session, Settings
from edgetfm.signature import Feeds, Signature


@dataclass(frozen=True)
class Model:
    """A bundle's graph in one precision on one device."""

    bundle: Bundle
    precision: str
    session: Session | EncoderDecoder

    def run(self, feeds: Mapping[str, Any] | None = None, /, **named: Any) -> Feeds:
        """The outputs by name for inputs by name: arrays or lists, given as a dict or keywords.

        Inputs are checked against `signature`; InputError lists every problem.
        """
        twice = [name for name in named if feeds is not None and name in feeds]
        if twice:
            raise InputError(f"given twice: {', '.join(twice)}")
        return self.session.run(self.signature.check({**(feeds or {}), **named}))

    @property
    def graph(self) -> Session:
        """The session of a model of one graph; InputError if this is an encoder-decoder."""
        if isinstance(self.session, EncoderDecoder):
            raise InputError(f"{self.bundle.root} holds an encoder and a decoder, not one graph")
        return self.session

    @property
    def signature(self) -> Signature:
        """What `run` takes and gives."""
        return self.bundle.manifest.signature

    @property
    def placement(self) -> dict[str, int]:
        """Provider -> how many nodes it runs, as onnxruntime assigned them."""
        return self.session.placement

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers that hold at least one node."""
        return self.session.providers

    @property
    def session_options(self) -> Settings:
        """The onnxruntime settings in use, from the manifest."""
        return self.session.settings


def load(
    path: str | os.PathLike[str],
    *,
    precision: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    allow_fallback: bool = False,
) -> Model:
    """The bundle at `path`, checked and ready to run.

    precision: a variant of the bundle, None is its default. threads: None is onnxruntime's
    default. Raises BundleError, InputError for a variant that is not there, DeviceError for a
    device that is missing or fell back.
    """
    bundle = open_bundle(path)
    manifest = bundle.manifest
    session = open_graph(
        bundle.graph(precision),
        signatures={name: c.signature for name, c in manifest.components.items()},
        device=device,
        threads=threads,
        settings=manifest.session,
        allow_fallback=allow_fallback,
    )
    return Model(bundle, manifest.default if precision is None else precision, session)
