"""Java stubs of the Android classes that the app names, to check its types against.

They are made of Python's stubs of Android's API (`pyi`). Of a class that is only mentioned in a
signature the name is made. What lies on a phone is what runs.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pyi import INTERFACES, Stubs, Type, is_interface, raw

LONGS = re.compile(r"(Nanos|Realtime|uptimeMillis|ItemId(AtPosition)?|getLong)$")
"""The methods that return a long, where the .pyi only say int."""

GENERIC = {"findViewById": "<T extends android.view.View> T"}
"""Methods whose answer has the type that the caller expects."""

_STUB = "edgetfm.Stub"
_OF_OBJECT = {"finalize", "getClass", "notify", "notifyAll", "wait"}


def _erased(name: str) -> str:
    """A type as the JVM tells methods apart: without what stands in <>, and T as Object."""
    found = raw(name)
    return "Object" if found.isupper() else found


def write(folder: Path, sources: Iterable[str], into: Path) -> list[Path]:
    """Java files in `into`, for all Android classes that the sources name."""
    stubs = Stubs(folder)
    maker = _Java(stubs)
    bodies: dict[str, list[str]] = {}
    waiting = {name for text in sources for name in stubs.named_in(text)}
    while waiting:
        name = waiting.pop()
        held = stubs.find(name)
        if held is not None and name not in bodies:
            maker.whole.add(name)
            bodies[name] = maker.members(held)
            waiting.update(raw(b) for b in stubs.bases(held))
        # A listener that is only mentioned is written as a lambda: its method has to be known.
        waiting |= (maker.mentioned & INTERFACES) - maker.whole
    maker.mention_ancestors()
    tops = {_top(name) for name in maker.whole | maker.mentioned}
    nobody = "package edgetfm;\npublic final class Stub { private Stub() {} }\n"
    files = [_file(into, _STUB, nobody)]
    for top in sorted(tops):
        held = stubs.find(top)
        if held is not None:
            text = "\n".join(maker.declared(held, bodies, inside=False))
            files.append(_file(into, top, f"package {held.package};\n{text}\n"))
    return files


def _top(name: str) -> str:
    parts = name.split(".")
    first = next(i for i, part in enumerate(parts) if part[0].isupper())
    return ".".join(parts[: first + 1])


def _file(into: Path, name: str, text: str) -> Path:
    file = into / f"{name.replace('.', '/')}.java"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


@dataclass(frozen=True)
class _Method:
    name: str
    parameters: tuple[str, ...]
    answer: str
    static: bool = False

    @property
    def key(self) -> tuple[str, ...]:
        return (self.name, *(_erased(p) for p in self.parameters))

    def text(self, abstract: bool) -> str:
        named = ", ".join(f"{t} a{i}" for i, t in enumerate(self.parameters))
        answer = GENERIC.get(self.name, self.answer)
        end = ";" if abstract else ' { throw new RuntimeException("Stub!"); }'
        return f"public {'static ' if self.static else ''}{answer} {self.name}({named}){end}"


class _Java:
    """Writes classes: those in `whole` with all members, others by their name alone."""

    def __init__(self, stubs: Stubs) -> None:
        self._stubs = stubs
        self.whole: set[str] = set()
        self.mentioned: set[str] = set()

    def members(self, held: Type) -> list[str]:
        """The lines inside a class."""
        lines = list(self._fields(held))
        lines += list(self._constructors(held)) if not held.interface else []
        own = self._methods(held)
        lines += [m.text(held.interface and not m.static) for m in own.values()]
        if not held.interface:
            lines += [m.text(False) for k, m in self._owed(held).items() if k not in own]
        return lines

    def declared(self, held: Type, bodies: dict[str, list[str]], inside: bool) -> Iterator[str]:
        """A class with those inside it that are needed."""
        known = held.name in self.whole
        kind = "interface" if held.interface else "class"
        generic = f"<{', '.join(held.parameters.values())}>" if held.parameters else ""
        heritage = self._heritage(held) if known else self._line(held)
        yield f"public {'static ' if inside else ''}{kind} {held.node.name}{generic}{heritage} {{"
        yield from bodies.get(held.name, ())
        if not known and not held.interface:
            chain = f"super(({_STUB}) null);" if self._above(held) else ""
            yield f"protected {held.node.name}({_STUB} s) {{ {chain} }}"
        for inner in held.inner:
            if any(n == inner.name or n.startswith(f"{inner.name}.") for n in self._needed()):
                yield from self.declared(inner, bodies, inside=True)
        yield "}"

    def _needed(self) -> set[str]:
        return self.whole | self.mentioned

    def mention_ancestors(self) -> None:
        """An answer may be narrower below: for that, what is only mentioned has ancestors too."""
        waiting = set(self.mentioned)
        while waiting:
            held = self._stubs.find(waiting.pop())
            if held is not None:
                named = {raw(b) for b in self._stubs.bases(held)} - self._needed()
                found = {name for name in named if self._stubs.find(name)}
                self.mentioned |= found
                waiting |= found

    def _line(self, held: Type) -> str:
        """The ancestors of a class that is only mentioned: it has no methods to owe."""
        bases = self._stubs.bases(held)
        if held.interface:
            known = [b for b in bases if is_interface(b)]
            return f" extends {', '.join(known)}" if known else ""
        above = self._above(held)
        return f" extends {above}" if above else ""

    def _heritage(self, held: Type) -> str:
        bases = self._stubs.bases(held)
        interfaces = [b for b in bases if is_interface(b)]
        above = [b for b in bases if not is_interface(b)]
        if len(above) > 1 or (held.interface and above):
            raise ValueError(f"{held.name}: which of {', '.join(above)} are interfaces?")
        if held.interface:
            return f" extends {', '.join(interfaces)}" if interfaces else ""
        text = f" extends {above[0]}" if above else ""
        return text + (f" implements {', '.join(interfaces)}" if interfaces else "")

    def _above(self, held: Type) -> str | None:
        """The class that a class extends, if it is one of Android's."""
        bases = [b for b in self._stubs.bases(held) if not is_interface(b)]
        return raw(bases[0]) if bases and self._stubs.find(raw(bases[0])) else None

    def _fields(self, held: Type) -> Iterator[str]:
        for node in held.node.body:
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                continue
            said: ast.expr = node.annotation
            static = ast.unparse(said).startswith("typing.ClassVar[")
            if static and isinstance(said, ast.Subscript):
                said = said.slice
            kind = self._type(said, held)
            if kind and not held.interface and not (static and kind.isupper()):
                yield f"public {'static ' if static else ''}{kind} {node.target.id};"

    def _constructors(self, held: Type) -> Iterator[str]:
        chain = f"super(({_STUB}) null);" if self._above(held) else ""
        yield f"protected {held.node.name}({_STUB} s) {{ {chain} }}"
        seen = set()
        for node in self._functions(held):
            if node.name != "__init__":
                continue
            parameters = self._signature(node, held)
            if parameters is None or tuple(map(raw, parameters)) in seen:
                continue
            seen.add(tuple(map(raw, parameters)))
            named = ", ".join(f"{t} a{i}" for i, t in enumerate(parameters))
            yield f"public {held.node.name}({named}) {{ {chain} }}"

    def _methods(self, held: Type) -> dict[tuple[str, ...], _Method]:
        found: dict[tuple[str, ...], _Method] = {}
        for node in self._functions(held):
            if node.name == "__init__" or node.name in _OF_OBJECT:
                continue
            parameters = self._signature(node, held)
            answer = self._type(node.returns, held)
            if parameters is None or answer is None:
                continue
            if answer == "int" and LONGS.search(node.name):
                answer = "long"
            static = any(ast.unparse(d) == "staticmethod" for d in node.decorator_list)
            method = _Method(node.name, parameters, answer, static)
            found.setdefault(method.key, method)
        return found

    def _owed(self, held: Type) -> dict[tuple[str, ...], _Method]:
        """What the interfaces of a class want of it."""
        owed: dict[tuple[str, ...], _Method] = {}
        waiting = [b for b in self._stubs.bases(held) if is_interface(b)]
        while waiting:
            base = self._stubs.find(raw(waiting.pop()))
            if base is not None:
                found = self._methods(base)
                owed |= {k: m for k, m in found.items() if not m.static}
                waiting += self._stubs.bases(base)
        return owed

    def _functions(self, held: Type) -> Iterator[ast.FunctionDef]:
        return (node for node in held.node.body if isinstance(node, ast.FunctionDef))

    def _signature(self, node: ast.FunctionDef, held: Type) -> tuple[str, ...] | None:
        named = (*node.args.posonlyargs, *node.args.args)
        given = [a for a in named if a.arg not in ("self", "cls")]
        types = [self._type(a.annotation, held) for a in given]
        if node.args.vararg:
            last = self._type(node.args.vararg.annotation, held)
            types.append(last and f"{last}...")
        return None if None in types else tuple(str(t) for t in types)

    def _type(self, node: ast.expr | None, held: Type) -> str | None:
        found = self._stubs.java(node, held, self.mentioned)
        # Python has no word for Java's `?`: its stubs say Object where any will do.
        return found and found.replace("<java.lang.Object>", "<?>")
