"""The manifest of a flavour as Gradle's plugin merges it, as far as this app's use that."""

from __future__ import annotations

import xml.etree.ElementTree as Tree
import zipfile
from collections.abc import Mapping
from pathlib import Path

ANDROID = "http://schemas.android.com/apk/res/android"
TOOLS = "http://schemas.android.com/tools"
NODE = f"{{{TOOLS}}}node"
NAME = f"{{{ANDROID}}}name"

UNWANTED = (
    "android.permission.INTERNET",
    "android.permission.ACCESS_NETWORK_STATE",
    "ai.onnxruntime.TelemetryInitializer",
)
"""What an ONNX Runtime that was built with telemetry asks for: java/src/main/android-telemetry in
its source. The copy of the package that is pinned here has a manifest without it."""

_OWN = ("application", "uses-sdk")
"""Nodes of a manifest's root that are not put beside main's."""


def of_library(package: Path) -> str:
    """The manifest inside a package of Android's."""
    with zipfile.ZipFile(package) as archive:
        return archive.read("AndroidManifest.xml").decode()


def merged(
    main: Path, flavor: Path, library: str, package: str, application: Mapping[str, str]
) -> str:
    """Main's manifest with what flavour and library add, and without what main removes.

    application: attributes that the build file stands for, by name.
    """
    Tree.register_namespace("android", ANDROID)
    root, unwanted = Tree.parse(main).getroot(), removed(main)
    for part in (root, *root):
        for child in list(part):
            if child.get(NODE) == "remove":
                part.remove(child)
    root.set("package", package)
    held = _application(root)
    for name, value in application.items():
        held.set(f"{{{ANDROID}}}{name}", value)
    added = [Tree.parse(flavor).getroot()] if flavor.is_file() else []
    for more in (*added, Tree.fromstring(library)):
        root.extend(n for n in more if n.tag not in _OWN and n.get(NAME) not in unwanted)
        held.extend(n for n in _application(more) if n.get(NAME) not in unwanted)
    return Tree.tostring(root, encoding="unicode", xml_declaration=True)


def brought(library: str, main: Path) -> list[str]:
    """What a library's manifest adds to the app, which main neither has nor removes."""
    root, known = Tree.fromstring(library), removed(main) | asked(main)
    nodes = [n for n in root if n.tag not in _OWN] + list(_application(root))
    names = sorted(f"{n.tag} {n.get(NAME)}" for n in nodes if n.get(NAME) not in known)
    return [f"the library's manifest adds {name} to the app" for name in names]


def removed(main: Path) -> set[str]:
    """The names of what a manifest takes away from those of libraries."""
    return {n.get(NAME, "") for n in Tree.parse(main).iter() if n.get(NODE) == "remove"}


def asked(main: Path) -> set[str]:
    """The permissions that a manifest asks for itself."""
    found = Tree.parse(main).getroot().findall("uses-permission")
    return {n.get(NAME, "") for n in found if n.get(NODE) != "remove"}


def _application(root: Tree.Element) -> Tree.Element:
    found = root.find("application")
    if found is None:
        raise ValueError("a manifest without an application")
    return found
