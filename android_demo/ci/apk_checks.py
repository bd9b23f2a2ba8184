"""What must be true of the APK that was built, read from the APK itself."""

from __future__ import annotations

import json
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import apk
from gradle import PERMISSIONS
from tools import Tools

from edgetfm.bundle import open_bundle
from edgetfm.manifest import MANIFEST

CLASSES = ("org/edgetfm/demo/MainActivity", "org/edgetfm/core/ScreenModel",
           "ai/onnxruntime/OrtSession", "kotlin/Unit")  # fmt: skip
MOST_BYTES = 250_000_000


def problems(tools: Tools, file: Path, bundles: Mapping[str, Path]) -> list[str]:
    """What is wrong with the APK, which should hold these bundles; [] if nothing is."""
    with zipfile.ZipFile(file) as archive:
        found = [
            *_badging(apk.run(tools.aapt2, "dump", "badging", file)),
            *_libraries(archive, tools),
            *_dex(archive),
            *_assets(archive, bundles),
        ]
    signed = apk.run("java", "-jar", tools.apksigner, "verify", "--verbose", file)
    if "Verified using v2 scheme (APK Signature Scheme v2): true" not in signed:
        found.append(f"the signature does not hold: {signed.strip()}")
    if file.stat().st_size > MOST_BYTES:
        found.append(f"it has {file.stat().st_size} bytes, at most {MOST_BYTES}")
    return found


def _badging(said: str) -> list[str]:
    wanted = {
        "package": f"name='{apk.PACKAGE}'",
        "sdkVersion": f"'{apk.MIN_SDK}'",
        "targetSdkVersion": f"'{apk.TARGET_SDK}'",
        "launchable-activity": f"name='{apk.PACKAGE}.MainActivity'",
        "native-code": " ".join(f"'{abi}'" for abi in apk.LIBRARIES),
    }
    said = said.replace("minSdkVersion:", "sdkVersion:")  # as newer ones call it
    lines = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
    found = [
        f"{name} is {lines.get(name, 'missing')}, expected {value}"
        for name, value in wanted.items()
        if value not in lines.get(name, "")
    ]
    asked = set(re.findall(r"uses-permission: name='([^']+)'", said))
    if asked != PERMISSIONS:
        found.append(f"it asks for {sorted(asked)}, expected {sorted(PERMISSIONS)}")
    return found


def _libraries(archive: zipfile.ZipFile, tools: Tools) -> list[str]:
    wanted = {
        f"lib/{abi}/{file.name}": file.read_bytes()
        for abi in apk.LIBRARIES
        for file in (tools.aar / "jni" / abi).glob("*.so")
    }
    names = {n for n in archive.namelist() if n.startswith("lib/")}
    found = [] if names == wanted.keys() else [f"its libraries are {sorted(names)}"]
    for name in sorted(names & wanted.keys()):
        entry = archive.getinfo(name)
        if entry.compress_type != zipfile.ZIP_STORED or _start(archive, entry) % apk.PAGE:
            found.append(f"{name} does not lie uncompressed on a page of {apk.PAGE}")
        data = archive.read(name)
        if data != wanted[name]:
            found.append(f"{name} is not the AAR's")
        if min(_segments(data)) < apk.PAGE:
            found.append(f"{name} was linked for pages smaller than {apk.PAGE}")
    return found


def _start(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> int:
    """Where the data of an entry begins, by its local header, whose extra field is its own."""
    assert archive.fp is not None
    archive.fp.seek(entry.header_offset + 26)
    name, extra = struct.unpack("<HH", archive.fp.read(4))
    return entry.header_offset + 30 + int(name) + int(extra)


def _segments(library: bytes) -> list[int]:
    """The alignment of each segment of an ELF file that is loaded."""
    (headers,) = struct.unpack_from("<Q", library, 32)
    (count,) = struct.unpack_from("<H", library, 56)
    read = [struct.unpack_from("<IIQQQQQQ", library, headers + 56 * i) for i in range(count)]
    return [segment[7] for segment in read if segment[0] == 1]


def _dex(archive: zipfile.ZipFile) -> list[str]:
    files = [n for n in archive.namelist() if re.fullmatch(r"classes\d*\.dex", n)]
    data = [archive.read(name) for name in files]
    if not data or any(not d.startswith(b"dex\n") for d in data):
        return [f"its classes are no dex files: {files}"]
    missing = [c for c in CLASSES if not any(f"L{c};".encode() in d for d in data)]
    return [f"its classes have no {', '.join(missing)}"] if missing else []


def _assets(archive: zipfile.ZipFile, bundles: Mapping[str, Path]) -> list[str]:
    """Whether the manifests and all that they list are there, byte for byte, and nothing else."""
    listed = "assets/bundles/bundles.json"
    wanted = {
        f"assets/bundles/{name}/{file}": bundle / file
        for name, bundle in bundles.items()
        for file in (MANIFEST, *open_bundle(bundle).manifest.files)
    }
    held = {n for n in archive.namelist() if n.startswith("assets/")}
    if held != {*wanted, listed}:
        return [f"assets differ: {sorted(held ^ {*wanted, listed})}"]
    found = [] if json.loads(archive.read(listed)) == sorted(bundles) else [f"{listed} is wrong"]
    return found + [
        f"{name} differs from the bundle's"
        for name, file in wanted.items()
        if archive.read(name) != file.read_bytes()
    ]
