"""Sounds to a model's inputs, as transformers' feature extractors make them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from edgetfm.errors import BundleError, InputError
from edgetfm.runtime.mel import LogMel
from edgetfm.runtime.sounds import Samples, Sound, samples_of
from edgetfm.signature import Array, Feeds, Signature

MASK = "attention_mask"
SHORT = ("silence", "repeat", "repeat-whole")
LAYOUTS = ("frames", "bands", "channel")
FASTEST = 1 << 20
"""Hertz that a model can hear at; sounds of any rate are taken to it."""
STEPS = ("sound", "band", "fixed")
LONGEST = 1 << 24
"""Samples or frames that a sound can be made long, 17 minutes at 16 kHz: each is held in memory."""
_TINY = 1e-7  # added to variances


@dataclass(frozen=True)
class AudioReader:
    """Sounds to one float input, and a mask where the model takes one, in this order of steps:
    mix and resample, make `samples` long, `mel`, cut to `dynamic` below the largest, make `frames`
    long, normalize, stack frames, pad to the longest of the batch.

    samples, frames: what every sound is made long, None is its own length; short: how. normalize:
    by the `sound`'s or each `band`'s own mean and variance, or by the `fixed` mean and std.
    drop_last: the last frame. stack: neighbouring frames that become one. padding: what stands
    behind shorter sounds. layout: [frames, bands], [bands, frames] or [channel, frames, bands].
    convolutions: kernel and stride of each by which the model itself makes frames of a wave.
    """

    name: str
    dtype: str
    masked: bool
    sampling_rate: int
    samples: int | None = None
    short: str = "silence"
    least: int = 1
    mel: LogMel | None = None
    drop_last: bool = False
    dynamic: float | None = None
    frames: int | None = None
    normalize: str | None = None
    mean: float = 0.0
    std: float = 1.0
    stack: int = 1
    padding: float = 0.0
    layout: str = "frames"
    convolutions: tuple[tuple[int, int], ...] = ()

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], signature: Signature) -> Self:
        """The reader that a manifest's preprocessing["audio"] describes; BundleError otherwise."""
        names = [t.name for t in signature.inputs]
        sounds = [t for t in signature.inputs if t.dtype.startswith("float")]
        if len(sounds) != 1 or not set(names) <= {sounds[0].name, MASK}:
            raise BundleError(f"a sound becomes one float input and a mask, not {names}")
        known = {k: v for k, v in settings.items() if k not in ("mel", "convolutions")}
        try:
            steps = tuple((int(k), int(s)) for k, s in settings.get("convolutions", ()))
            reader = cls(
                name=sounds[0].name,
                dtype=sounds[0].dtype,
                masked=MASK in names,
                mel=LogMel.from_settings(settings["mel"], known["sampling_rate"])
                if settings.get("mel")
                else None,
                convolutions=steps,
                **known,
            )
            reader._check(len(sounds[0].shape))
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"the audio preprocessing is malformed: {type(error).__name__} {error}"
            ) from error
        return reader

    def _check(self, axes: int) -> None:
        counts = (self.sampling_rate, self.least, self.stack, self.samples or 1, self.frames or 1)
        if any(not isinstance(n, int) or n < 1 for n in counts) or not self.std:
            raise ValueError(f"a length, rate or std that cannot be: {counts}, {self.std}")
        if (most := max(self.least, self.stack, self.samples or 1, self.frames or 1)) > LONGEST:
            raise ValueError(f"a length of {most}, at most {LONGEST} is taken")
        if self.sampling_rate > FASTEST:
            raise ValueError(f"a rate of {self.sampling_rate} Hz, at most {FASTEST} is taken")
        words = ((self.short, SHORT), (self.layout, LAYOUTS), (self.normalize or "sound", STEPS))
        for word, allowed in words:
            if word not in allowed:
                raise ValueError(f"'{word}' is none of {', '.join(allowed)}")
        wanted = 2 if self.mel is None else 4 if self.layout == "channel" else 3
        if axes != wanted:
            raise ValueError(f"its sounds have {wanted} axes, the graph takes {axes}")

    def __call__(self, sounds: Sound | Sequence[Sound]) -> Feeds:
        """The sounds as one batch; a single one is a batch of one."""
        given, _ = sound_items(sounds)
        if not given:
            raise InputError("no sounds were given")
        return self.batch([self.read(sound) for sound in given])

    def read(self, sound: Sound) -> Array:
        """One sound as float32, without the padding of a batch: [samples], or as `layout` has it.

        What is longer than the model takes is cut.
        """
        return self.prepare(samples_of(sound, self.sampling_rate))

    def prepare(self, wave: Samples) -> Array:
        """The same for samples at the model's rate."""
        if wave.size < self.least:
            raise InputError(
                f"a sound of {wave.size} samples is too short: the model needs {self.least} or "
                f"more, {1000 * self.least / self.sampling_rate:.3g} ms"
            )
        values: Array = wave if self.samples is None else self._of_length(wave, self.samples)
        if self.mel is not None:
            values = self._frames(self._spectrum(self.mel, wave, values))
        if self.normalize in ("sound", "band"):
            values = _standard(values, self.normalize)
        elif self.normalize == "fixed":
            values = (values - self.mean) / self.std
        if self.layout == "bands":
            values = values.T
        elif self.layout == "channel":
            values = values[None]
        return np.ascontiguousarray(values, dtype=np.float32)

    def batch(self, rows: Sequence[Array]) -> Feeds:
        """Rows that were read, as one batch, shorter ones padded on the right."""
        if self.layout != "frames" or (self.frames or self.samples):
            feeds = {self.name: np.stack(rows)}
            lengths = [self.frames or self.samples or 1] * len(rows)
        else:
            lengths = [len(row) for row in rows]
            longest = -(-max(lengths) // self.stack) * self.stack
            shape = (len(rows), longest, *rows[0].shape[1:])
            padded = np.full(shape, self.padding, dtype=np.float32)
            for row, line in zip(rows, padded, strict=True):
                line[: len(row)] = row
            feeds = {self.name: padded}
        if self.stack > 1:
            batch, frames, bands = feeds[self.name].shape
            feeds[self.name] = feeds[self.name].reshape(
                batch, frames // self.stack, bands * self.stack
            )
            lengths = [length // self.stack for length in lengths]  # whole stacks alone count
        feeds[self.name] = feeds[self.name].astype(self.dtype)
        if self.masked:
            positions = np.arange(feeds[self.name].shape[1])
            feeds[MASK] = (positions < np.array(lengths)[:, None]).astype(np.int64)
        return feeds

    def positions(self, length: int) -> int:
        """How many frames a model gives for a row of so many samples, or frames, that was read."""
        length //= self.stack
        for kernel, stride in self.convolutions:
            length = (length - kernel) // stride + 1
        return max(0, length)

    @property
    def longest(self) -> int | None:
        """The samples beyond which a sound is cut; None for a model that takes any length."""
        if self.samples is None and self.frames is not None and self.mel is not None:
            return self.mel.hop * (self.frames - 1) + self.mel.length
        return self.samples

    @property
    def samples_a_frame(self) -> int:
        """From the beginning of one frame to that of the next."""
        step = 1 if self.mel is None else self.mel.hop * self.stack
        for _, stride in self.convolutions:
            step *= stride
        return step

    def _spectrum(self, mel: LogMel, wave: Samples, values: Array) -> Array:
        """The spectrum of `values`, which is the wave made as long as the model hears."""
        if self.short == "silence" and not self.padding and values.size > wave.size:
            return mel.followed_by_silence(wave, values.size)
        return mel(values)

    def _of_length(self, wave: Samples, length: int) -> Samples:
        if wave.size >= length:
            return wave[:length]
        if self.short == "repeat":
            wave = np.tile(wave, length // wave.size + 1)[:length]
        elif self.short == "repeat-whole":
            wave = np.tile(wave, length // wave.size)
        return np.pad(wave, (0, length - wave.size), constant_values=self.padding)

    def _frames(self, spectrum: Array) -> Array:
        values = spectrum[:-1] if self.drop_last else spectrum
        if self.dynamic is not None:
            values = np.maximum(values, values.max() - self.dynamic)
        if self.frames is None:
            return values
        missing = max(0, self.frames - len(values))
        return np.pad(values[: self.frames], ((0, missing), (0, 0)))


def _standard(values: Array, by: str) -> Array:
    """Mean 0 and variance 1: of a sound over all its samples, of a band over its frames."""
    exact = np.asarray(values, dtype=np.float64)
    if by == "sound":
        return np.asarray((exact - exact.mean()) / np.sqrt(exact.var() + _TINY))
    if len(exact) < 2:
        raise InputError("a sound of one frame is too short: its bands have no variance")
    return np.asarray((exact - exact.mean(0)) / np.sqrt(exact.var(0, ddof=1) + _TINY))


def sound_items(inputs: Any) -> tuple[list[Any], bool]:
    """The sounds, and whether a single one was given: a list in gives a list out."""
    single = isinstance(inputs, (str, os.PathLike, tuple, Mapping, np.ndarray))
    if single or not isinstance(inputs, Sequence):
        return [inputs], True
    return list(inputs), False
