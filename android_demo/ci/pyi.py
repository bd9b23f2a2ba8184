"""Python's stubs of Android's API read as Java's classes.

The .pyi files (chaquopy-stubs-android) know every class, method and field of API 36, and lose what
Python has no word for: which classes are interfaces, for one. A table gives that back.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_INTERFACES = """
app.Application.ActivityLifecycleCallbacks content.ComponentCallbacks content.ComponentCallbacks2
content.DialogInterface content.DialogInterface.OnClickListener database.Cursor
graphics.drawable.Drawable.Callback media.AudioRecordingMonitor media.AudioRecordingMonitorClient
media.AudioRouting media.MicrophoneDirection os.Parcelable text.Editable text.GetChars
text.Spannable text.Spanned util.AttributeSet util.Printer view.KeyEvent.Callback
view.LayoutInflater.Factory view.LayoutInflater.Factory2 view.View.OnClickListener
view.View.OnCreateContextMenuListener view.ViewManager view.ViewParent view.Window.Callback
view.ViewTreeObserver.OnPreDrawListener view.accessibility.AccessibilityEventSource
widget.Adapter widget.AdapterView.OnItemSelectedListener widget.Filter.FilterListener
widget.Filterable widget.ListAdapter widget.SpinnerAdapter widget.ThemedSpinnerAdapter
"""
INTERFACES = frozenset(f"android.{name}" for name in _INTERFACES.split())
"""Of the classes and their ancestors those that Java has as interfaces."""

_PRIMITIVES = {
    f"j{name}": name
    for name in ("int", "long", "float", "double", "boolean", "byte", "short", "char")
}

_IMPORT = re.compile(r"^import (android\.[\w.]+)$", re.MULTILINE)

_GENERIC = ("java.util.", "java.lang.Iterable", "java.lang.Comparable")
"""Java's own types that keep what stands in their <>."""


@dataclass
class Type:
    """A class of the .pyi files: where it stands, its bases, and the classes inside it."""

    name: str
    package: str
    node: ast.ClassDef
    inner: list[Type] = field(default_factory=list)

    @property
    def interface(self) -> bool:
        """Whether Java has it as an interface."""
        return self.name in INTERFACES

    @property
    def parameters(self) -> dict[str, str]:
        """Its type parameters: what the .pyi calls each -> what Java does."""
        said = (b for b in self.node.bases if ast.unparse(b).startswith("typing.Generic"))
        found = next((re.findall(r"\b_\w+", ast.unparse(b)) for b in said), [])
        return {name: name.rpartition("__")[2] for name in found}


class Stubs:
    """Reads packages as they are asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._types: dict[str, Type] = {}
        self._parameters: dict[str, set[str]] = {}

    def find(self, name: str) -> Type | None:
        """The class of this name, None if Android has none."""
        if not name.startswith("android."):
            return None  # Java's own are those of the JDK
        package = ".".join(part for part in name.split(".") if part[0].islower())
        while package and package not in self._parameters:
            first, _, rest = package.partition(".")
            file = self._folder / f"{first}-stubs" / rest.replace(".", "/") / "__init__.pyi"
            if file.is_file():
                self._read(package, ast.parse(file.read_text(encoding="utf-8")))
                break
            package = package.rpartition(".")[0]  # android.R.layout: a class in small letters
        return self._types.get(name)

    def _read(self, package: str, tree: ast.Module) -> None:
        self._parameters[package] = {
            node.targets[0].id
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }

        def walk(body: Iterable[ast.stmt], above: str) -> Iterator[Type]:
            for node in body:
                if isinstance(node, ast.ClassDef):
                    made = Type(f"{above}.{node.name}", package, node)
                    self._types[made.name] = made
                    made.inner = list(walk(node.body, made.name))
                    yield made

        list(walk(tree.body, package))

    def named_in(self, text: str) -> set[str]:
        """The Android classes that a Kotlin file names, in full or by what it imports."""
        imports = {name.rpartition(".")[2]: name for name in re.findall(_IMPORT, text)}
        named = re.findall(r"\bandroid(?:\.\w+)+", text)
        for short, name in imports.items():
            named += [name + rest for rest in re.findall(rf"\b{short}((?:\.[A-Za-z]\w*)+)", text)]
        found = set()
        for words in named:
            parts = words.split(".")
            names = (".".join(parts[:n]) for n in range(len(parts), 1, -1))
            known = next((name for name in names if self.find(name)), None)
            if known:
                found.add(known)
        return found

    def bases(self, held: Type) -> list[str]:
        """The ancestors that stand in a class's head, as Java names them."""
        named = (self.java(base, held) for base in held.node.bases)
        return [n for n in named if n and n not in ("java.lang.Object", "Generic")]

    def java(self, node: ast.expr | None, at: Type, seen: set[str] | None = None) -> str | None:
        """A Java type, None for what Java's stubs cannot name; Android's are added to `seen`."""
        if node is None or (isinstance(node, ast.Constant) and node.value is None):
            return "void"
        if isinstance(node, ast.BinOp):
            options = list(_alternatives(node))
            primitive = next((p for o in options if (p := _primitive(o))), None)
            if primitive and ast.unparse(options[-1]) != "str":
                return primitive
            return self.java(options[0], at, seen)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return self.java(ast.parse(node.value, mode="eval").body, at, seen)
        if isinstance(node, ast.Subscript):
            return self._parametrized(node, at, seen)
        name = ast.unparse(node)
        plain = {"str": "String", "int": "int", "float": "float", "bool": "boolean"}
        if name in plain:
            return plain[name]
        if name.startswith("_"):
            return at.parameters.get(name, "Object")
        if primitive := _primitive(node):
            return primitive
        if match := re.fullmatch(r"java\.chaquopy\.JavaArrayJ(\w+)", name):
            return f"{match[1].lower()}[]"
        if name.startswith(("java.chaquopy", "typing")):
            return "Generic" if name == "typing.Generic" else None
        if name.startswith(("java.", "javax.")):
            return name
        for candidate in (name, f"{at.package}.{name}"):
            if self.find(candidate):
                if seen is not None:
                    seen.add(candidate)
                return candidate
        return None

    def _parametrized(self, node: ast.Subscript, at: Type, seen: set[str] | None) -> str | None:
        outer = ast.unparse(node.value)
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if outer == "typing.Type":
            return "Class<?>"
        if outer == "java.chaquopy.JavaArray":
            of = self.java(inner[0], at, seen)
            return f"{of}[]" if of else None
        base = self.java(node.value, at, seen)
        if base is None or base == "Generic":
            return base
        held = self.find(base)
        if held and len(held.parameters) != len(inner):
            return base
        if held is None and not base.startswith(_GENERIC):
            return base
        arguments = [self.java(i, at, seen) for i in inner]
        if not all(arguments) or any(a in _PRIMITIVES.values() for a in arguments):
            return base
        return f"{base}<{', '.join(str(a) for a in arguments)}>"


def _alternatives(node: ast.expr) -> Iterator[ast.expr]:
    """The parts of `a | b | None`, without None."""
    if isinstance(node, ast.BinOp):
        yield from _alternatives(node.left)
        yield from _alternatives(node.right)
    elif not (isinstance(node, ast.Constant) and node.value is None):
        yield node


def _primitive(node: ast.expr) -> str | None:
    name = ast.unparse(node)
    return _PRIMITIVES.get(name.removeprefix("java.")) if name.startswith("java.j") else None


def raw(name: str) -> str:
    """A type without what stands in <>."""
    return name.partition("<")[0]


def is_interface(name: str) -> bool:
    """Whether a type that Java names is an interface."""
    return raw(name) in INTERFACES or raw(name) in (
        "java.io.Closeable", "java.lang.AutoCloseable", "java.lang.CharSequence",
        "java.lang.Appendable", "java.lang.Runnable", "java.lang.Iterable", "java.lang.Comparable",
        "java.util.Iterator", "java.lang.Cloneable", "java.io.Serializable", "java.util.Comparator",
    )  # fmt: skip
