"""One graph loaded into onnxruntime, which says where each node really runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetfm.errors import BundleError, DeviceError, EdgetfmError, InputError, listed
from edgetfm.runtime._ort import ort
from edgetfm.runtime.devices import Device, ready_device
from edgetfm.runtime.huge_pages import in_huge_pages
from edgetfm.runtime.placement import CPU, FirstCall, fell_back, placed
from edgetfm.settings import problems_of
from edgetfm.signature import KEEP, PAST, Feeds, Signature, TensorSpec

Settings = Mapping[str, Any]
"""{"disabled_optimizers": [name, ...], "config_entries": {key: value}}, as in a manifest."""


def without_spinning(settings: Settings | None = None) -> Settings:
    """The settings, with threads that sleep while they wait instead of keeping their core busy.

    For sessions that take turns with other work: spinning threads of one, or of a BLAS, would
    take the cores from the next.
    """
    settings = checked(settings)
    entries = {"session.intra_op.allow_spinning": "0", **settings.get("config_entries", {})}
    return {**settings, "config_entries": entries}


LARGE_GRAPH = 1 << 30
"""Bytes of float weights from which sessions that prove a graph read them where they lie."""


def in_place(path: Path, settings: Settings | None = None) -> Settings:
    """The settings for a float graph, without copies of its weights if they are many."""
    weights = path.with_name(f"{path.name}_data")
    large = weights.is_file() and weights.stat().st_size >= LARGE_GRAPH
    return uncopied(settings) if large else settings or {}


def uncopied(settings: Settings | None = None) -> Settings:
    """The settings, without copies of the weights.

    onnxruntime maps weights that lie in a file of their own, and the system can drop what is
    mapped; it packs them anew for its products, and transposes a table that is also the head. A
    graph of 540 MB takes 525 MB then, 111 without packing; calls take 1.06 of the time.
    """
    settings = checked(settings)
    entries = {**settings.get("config_entries", {}), "session.disable_prepacking": "1"}
    return {
        **settings,
        "config_entries": entries,
        "disabled_optimizers": [*settings.get("disabled_optimizers", ()), "ConstantFolding"],
    }


MOST_THREADS = 1024
"""Of one session; onnxruntime would start any number, and wait for them."""


@dataclass(frozen=True)
class Session:
    """A graph ready to run. `placement` counts the nodes of each provider; made by make_session.

    optional_inputs: inputs that the graph has a value for, and that may be left out.
    """

    path: Path
    device: Device
    threads: int | None
    settings: Settings
    signature: Signature
    placement: dict[str, int]
    fallen_back: dict[str, int]
    _session: Any
    optional_inputs: tuple[str, ...] = ()
    _first_call: FirstCall | None = None

    def run(self, feeds: Mapping[str, Any], outputs: Sequence[str] | None = None) -> Feeds:
        """The outputs by name, all of them unless some are named. `feeds` are not converted.

        A decoder that is given no past is asked about whole texts: see Signature.of_whole_texts.
        """
        feeds, signature = self.asked(feeds)
        names = [o.name for o in signature.outputs] if outputs is None else list(outputs)
        try:
            values = self._session.run(names, dict(feeds))
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise _run_error(error, self, feeds) from error
        self._judge_first_call()
        return dict(zip(names, values, strict=True))

    def asked(self, feeds: Mapping[str, Any]) -> tuple[Feeds, Signature]:
        """All that the graph takes where it is asked this, and the signature of what it gives."""
        signature = self.signature
        if not signature.has_cache or any(name.startswith(PAST) for name in feeds):
            return dict(feeds), signature
        whole = signature.whole_texts(dict(feeds))
        if KEEP in self.optional_inputs:
            whole.setdefault(KEEP, np.array(0, np.int64))
        return whole, signature.of_whole_texts

    def io_binding(self) -> Any:
        """onnxruntime's table of the buffers that inputs are read from and outputs written to."""
        return self._session.io_binding()

    def run_bound(self, binding: Any, feeds: Feeds | None = None) -> None:
        """Run on the buffers of a table that `io_binding` made. feeds: what an error may name."""
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            raise _run_error(error, self, feeds or {}) from error
        self._judge_first_call()

    def _judge_first_call(self) -> None:
        """DeviceError if, without leave, the CPU computed more than shapes in the first call."""
        if self._first_call is None:
            return
        self.fallen_back.update(self._first_call.fallen_back(self._session))
        if self.fallen_back and not self._first_call.allowed:
            raise fell_back(self.path, self.device, self.fallen_back)

    def end_profiling(self) -> Path:
        """The file of times of a session that was made with `profile_to`, now complete."""
        return Path(self._session.end_profiling())

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers that hold at least one node, the one with the most nodes first."""
        return tuple(p for p, _ in Counter(self.placement).most_common())


def make_session(
    path: Path,
    *,
    device: str = "cpu",
    threads: int | None = None,
    settings: Settings | None = None,
    allow_fallback: bool = False,
    optimize: bool = True,
    signature: Signature | None = None,
    profile_to: Path | None = None,
    weights_in: Path | None = None,
) -> Session:
    """The graph at `path`, loaded on `device`.

    threads: intra-op threads, None is onnxruntime's default (the physical cores).
    settings: onnxruntime settings as in a manifest's `session`.
    optimize: False loads the graph as it was written, without any of onnxruntime's rewrites.
    signature: what the graph must take and give.
    profile_to: a folder; the time of each node is written there until `end_profiling`.
    weights_in: the folder of its external weights, None is its own.
    Raises DeviceError if the device is missing or, without `allow_fallback`, if nodes ended on the
    CPU, other than arithmetic of shapes: what looks like it is judged by the first call, which
    then raises; BundleError if the file cannot be loaded or has another signature; MissingExtra
    without onnxruntime.
    """
    path = in_utf8(Path(path))
    if not path.is_file():
        raise InputError(f"no graph at {path}")
    row = ready_device(device)
    settings = checked(settings)
    options = _options(threads, settings, optimize)
    if weights_in is not None:  # which are the caller's: whoever made a bundle cannot name others
        options.add_session_config_entry(_WEIGHTS_IN, str(weights_in))
    first_call = None
    if row.provider != CPU and profile_to is None:
        first_call = FirstCall(allowed=allow_fallback)
        profile_to = first_call.folder
    if profile_to is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_to / "profile")
    try:
        with in_huge_pages():
            session = ort().InferenceSession(
                path if weights_in is None else path.read_bytes(),
                options,
                providers=[(row.provider, dict(row.options))],
                enable_fallback=False,
                disabled_optimizers=list(settings.get("disabled_optimizers", ())),
            )
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise load_error(error, path, row) from error
    placement, fallen_back = placed(session, row)
    if fallen_back and not allow_fallback:
        raise fell_back(path, row, fallen_back)
    found = _signature(session)
    optional = tuple(node.name for node in session.get_overridable_initializers())
    if signature is not None:
        _check_signature(found, signature.without(optional), path)
    return Session(
        path, row, threads, settings, found, placement, fallen_back, session, optional, first_call
    )


_WEIGHTS_IN = "session.model_external_initializers_file_folder_path"


def _options(threads: int | None, settings: Settings, optimize: bool) -> Any:
    if threads is not None and threads < 1:
        raise InputError(f"threads is {threads}, it must be 1 or more")
    if threads is not None and threads > MOST_THREADS:
        raise InputError(f"threads is {threads}, it may be {MOST_THREADS} at most")
    options = ort().SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised; onnxruntime would also print it
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    if not optimize:
        options.graph_optimization_level = ort().GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    for key, value in settings.get("config_entries", {}).items():
        options.add_session_config_entry(key, value)
    return options


def checked(settings: Settings | None) -> Settings:
    """The settings, or a BundleError: they may come from somebody else's manifest."""
    problems = problems_of(settings or {})
    if problems:
        raise BundleError(f"the session settings are malformed:\n{listed(problems)}")
    return settings or {}


def in_utf8(path: Path) -> Path:
    """The path, or an InputError for one that onnxruntime cannot be given."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the path {str(path)!r} is not UTF-8 and onnxruntime takes no other: rename the folder"
        ) from error
    return path


_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
} | {
    f"tensor({kind}{bits})": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
}


NO_NAME = "?"
"""What an axis is called that is free and has no name."""


def _signature(session: Any) -> Signature:
    def specs(nodes: Any) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(
                n.name,
                _DTYPES.get(n.type, n.type),
                tuple(NO_NAME if axis is None else axis for axis in n.shape),
            )
            for n in nodes
        )

    return Signature(specs(session.get_inputs()), specs(session.get_outputs()))


def _check_signature(found: Signature, wanted: Signature, path: Path) -> None:
    """Raise a BundleError if names, dtypes or fixed sizes differ; free axes may be named anyhow."""
    problems = []
    for way in ("inputs", "outputs"):
        have, want = ({t.name: t for t in getattr(s, way)} for s in (found, wanted))
        for name in have | want:
            if name not in have or name not in want or not _alike(have[name], want[name]):
                says, has = want.get(name, "nothing"), have.get(name, "nothing")
                problems.append(f"{way[:-1]} '{name}': the manifest says {says}, the graph {has}")
    if problems:
        raise BundleError(f"{path} is not the graph of its manifest:\n{listed(problems)}")


def _alike(one: TensorSpec, other: TensorSpec) -> bool:
    if one.dtype != other.dtype or len(one.shape) != len(other.shape):
        return False
    sizes = [p for p in zip(one.shape, other.shape, strict=True) if all(type(a) is int for a in p)]
    return all(a == b for a, b in sizes)


def _said(error: Exception) -> str:
    """onnxruntime's message without its prefix of codes, on one line."""
    text = " ".join(str(error).split())
    return text.rsplit("[ONNXRuntimeError] : ", 1)[-1]


def load_error(error: Exception, path: Path, device: Device) -> EdgetfmError:
    """What onnxruntime said of a graph that it does not load: of the bundle, or of the device."""
    if device.provider.startswith("CPU"):
        return BundleError(f"onnxruntime cannot load {path}: {_said(error)}")
    return DeviceError(f"onnxruntime cannot load {path} on {device.name}: {_said(error)}")


def _run_error(error: Exception, session: Session, feeds: Mapping[str, Any]) -> EdgetfmError:
    shapes = ", ".join(f"{name} {getattr(a, 'shape', '')}" for name, a in feeds.items())
    text = (
        f"onnxruntime cannot run {session.path.name} on {shapes or 'its buffers'}: {_said(error)}"
    )
    return InputError(text) if session.device.provider.startswith("CPU") else DeviceError(text)
