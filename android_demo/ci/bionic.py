"""An Android library made loadable on glibc: for tests on the JVM, never for what ships.

Android's libc (bionic) and glibc agree on almost all that ONNX Runtime calls. A copy of the library
loses its tables of symbol versions, which glibc cannot satisfy, and the few imports whose binary
interface differs get other names of the same length, which bionic.c defines.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

RENAMED = {
    b"sysconf": b"b_sconf",  # numbers of _SC_ names differ
    b"strerror_r": b"b_strerr_r",  # POSIX's, glibc exports GNU's
    b"fflush": b"b_fflu",  # of __sF, which is bionic's stdout
    b"sigfillset": b"b_sgfillst",  # sigset_t has 8 bytes, glibc's 128
    b"pthread_sigmask": b"b_pthr_sigmask_",
    b"open": b"b_op",
    b"fopen": b"b_fop",
}
_VERSIONS = (0x6FFFFFF0, 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF)
_IGNORED = 0x60000FFF
_LOAD, _DYNAMIC = 1, 2
_STRTAB, _SYMTAB, _STRSZ = 5, 6, 10


def on_glibc(library: bytes) -> bytes:
    """The library without version tables, with the imports of RENAMED under their other names."""
    data = bytearray(library)
    (headers,) = struct.unpack_from("<Q", data, 32)
    (count,) = struct.unpack_from("<H", data, 56)
    segments = [struct.unpack_from("<IIQQQQQQ", data, headers + 56 * i) for i in range(count)]

    def offset(address: int) -> int:
        for kind, _, start, virtual, _, size, *_ in segments:
            if kind == _LOAD and virtual <= address < virtual + size:
                return int(start + address - virtual)
        raise ValueError(f"no segment holds the address {address:#x}")

    at = next(segment[2] for segment in segments if segment[0] == _DYNAMIC)
    table: dict[int, int] = {}
    while True:
        tag, value = struct.unpack_from("<QQ", data, at)
        if tag == 0:
            break
        table[tag] = value
        if tag in _VERSIONS:
            struct.pack_into("<Q", data, at, _IGNORED)
        at += 16
    strings = offset(table[_STRTAB])
    for name in _imports(data, offset(table[_SYMTAB]), table[_STRSZ]):
        end = data.index(0, strings + name)
        known = RENAMED.get(bytes(data[strings + name : end]))
        if known is not None:
            data[strings + name : end] = known
    return bytes(data)


def _imports(data: bytearray, at: int, strings: int) -> Iterator[int]:
    """Where the names of undefined symbols begin in the table of strings, which follows them."""
    at += 24
    while at + 24 <= len(data):
        name, _, _, section = struct.unpack_from("<IBBH", data, at)
        if name >= strings:
            return
        if section == 0:
            yield name
        at += 24


def build(
    libraries: Path,
    into: Path,
    compiler: Sequence[str] = ("gcc",),
    lies: Callable[[str], Path] | None = None,
) -> Path:
    """Copies of an AAR's libraries of one ABI that glibc loads, and their shim, in `into`.

    lies: where a library of the system lies by its name; by default the compiler is asked.
    """
    into.mkdir(parents=True, exist_ok=True)
    shim = into / "libbionic_shim.so"
    source = Path(__file__).with_name("bionic.c")
    subprocess.run(
        [*compiler, "-shared", "-fPIC", "-O1", "-o", shim, source, "-lpthread"], check=True
    )
    for library in sorted(libraries.glob("*.so")):
        (into / library.name).write_bytes(on_glibc(library.read_bytes()))
    _lay_names(into, shim, lies or partial(_printed, compiler))
    return shim


ON_GLIBC = {"libc.so": "libc.so.6", "libm.so": "libm.so.6", "libdl.so": "libdl.so.2"}
"""Android's libraries have no versions in their names."""


def _printed(compiler: Sequence[str], name: str) -> Path:
    said = subprocess.run(
        [*compiler, f"-print-file-name={name}"], check=True, capture_output=True, text=True
    )
    return Path(said.stdout.strip())


def _lay_names(into: Path, shim: Path, lies: Callable[[str], Path]) -> None:
    """Links by which what the libraries ask for is found beside them."""
    for name, found in ON_GLIBC.items():
        _link(into / name, lies(found).resolve())
    for name in ("liblog.so", "libandroid.so"):
        _link(into / name, shim)


def _link(link: Path, target: Path) -> None:
    link.unlink(missing_ok=True)
    link.symlink_to(target)
