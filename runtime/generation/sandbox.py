"""Where chat templates run: a stranger's code that reaches nothing and cannot eat the machine.

Jinja's immutable sandbox keeps a template from what is outside. It does not keep it from
multiplying text until memory is full, or from loops in loops. Here what an operation may make is
bounded before it is made, everything made is counted, and every body that runs looks at the clock.
"""

from __future__ import annotations

import functools
import re
import string
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from types import GeneratorType
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame, operators
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

LONGEST = 10_000_000
"""Characters of a text, or items of a list: more than any model's context holds."""
PRODUCT = 100_000_000
"""What a call may come to: filters and methods make no more than the product of what they get."""
ALL = 100_000_000
"""Characters and items made in one go, with those that are gone again."""
NODES = 300_000
"""Values inside one another that are looked at before an operation walks over them."""
BITS = 1_000_000
SECONDS = 5.0
"""Processor time; templates take milliseconds."""


class TooMuch(Exception):
    """A template that goes beyond what any chat needs."""


class _Meter:
    """What one rendering has used."""

    def __init__(self) -> None:
        self._made = 0
        self._end = time.thread_time() + SECONDS

    def tick(self) -> None:
        if time.thread_time() > self._end:
            raise TooMuch(f"it runs for more than {SECONDS:.0f} seconds")

    def made(self, size: int) -> None:
        self._made += size
        if size > LONGEST or self._made > ALL:
            most = LONGEST if size > LONGEST else ALL
            raise TooMuch(f"it makes more than {most:,} characters")


_GROWS_NOTHING = frozenset(
    {"count", "d", "default", "first", "float", "int", "items", "last", "length", "list", "lower"}
    | {"map", "reject", "rejectattr", "reverse", "select", "selectattr", "sort", "string", "trim"}
    | {"unique", "upper"}
)
"""Filters that give no more than they get; those that `map` calls are looked at themselves."""

_METER: ContextVar[_Meter] = ContextVar("_METER")


@contextmanager
def metered() -> Iterator[None]:
    """What is rendered inside is bounded together."""
    token = _METER.set(_Meter())
    try:
        yield
    finally:
        _METER.reset(token)


def _counted(value: Any) -> Any:
    """A result, once its size is known to be bearable."""
    meter = _METER.get(None)
    if meter is not None and isinstance(value, (str, bytes, list, tuple, dict)):
        meter.made(len(value))
    return value


def _size(value: Any) -> int:
    """Characters and items of a value with all that is inside it; a number counts as itself."""
    total, seen, todo = 0, 0, [value]
    while todo:
        one = todo.pop()
        seen += 1
        if seen > NODES:
            raise TooMuch(f"it nests more than {NODES:,} values in one another")
        if isinstance(one, (str, bytes)):
            total += len(one)
        elif isinstance(one, Mapping):
            total += len(one)
            todo += one.keys()
            todo += one.values()
        elif isinstance(one, (list, tuple, set, frozenset)):
            total += len(one)
            todo += one
        elif isinstance(one, int):
            total += abs(one) if value is one else 1
        else:
            total += 1
    return total


def _checked(values: Iterable[Any]) -> None:
    """TooMuch if a call with these could make more than is bearable."""
    product = 1
    for value in values:
        product *= max(1, _size(value))
        if product > PRODUCT:
            raise TooMuch(f"one call of it could make more than {PRODUCT:,} characters")


def _widest(form: str) -> int:
    """The largest number in a format string, which may be a width."""
    return max((int(digits[:12]) for digits in re.findall(r"\d+", form)), default=1)


def _fixed_width(form: str) -> None:
    """TooMuch if a format takes a width from its values, which may be any number."""
    try:
        fields = [spec or "" for _, _, spec, _ in string.Formatter().parse(form)]
    except ValueError:  # no format at all, which says so where it is used
        return
    if any("{" in spec for spec in fields):
        raise TooMuch(_WIDTH)


_WIDTH = "it computes the width of what it writes"


def _held(value: Any) -> Any:
    """A generator's values, which are walked anyway, as a list of bounded length."""
    if not isinstance(value, GeneratorType):
        return value
    found = list(islice(value, NODES + 1))
    if len(found) > NODES:
        raise TooMuch(f"it makes a list of more than {NODES:,} values")
    return found


def _replaced(text: str, old: Any, new: Any, *count: Any) -> None:
    """Room for `replace`, whose bound by the product would stop long chats."""
    _checked([max(len(text), 1) // max(1, len(str(old))) + 1, str(new)])


def _times(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        _digits(left.bit_length() + right.bit_length())
    else:
        _checked([left, right])
    return left * right


def _power(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        _digits(left.bit_length() * right)
    return left**right


def _digits(bits: int) -> None:
    if bits > BITS:
        raise TooMuch("it makes a number of too many digits")


def _modulo(left: Any, right: Any) -> Any:
    if isinstance(left, str):
        _fixed_percent(left, right)
    return left % right


def _fixed_percent(form: str, values: Any) -> None:
    """Room for `%` of a text."""
    if re.search(r"%[-+ #0]*(\d*\.)?\*", form):
        raise TooMuch(_WIDTH)
    _checked([form, _widest(form), _said(values)])


def _plus(left: Any, right: Any) -> Any:
    both = (left, right)
    if all(isinstance(one, (str, list, tuple)) for one in both) and sum(map(len, both)) > LONGEST:
        raise TooMuch(f"it makes more than {LONGEST:,} characters")
    return left + right


def _said(values: Any) -> Any:
    """Values as they count where they are written out: a number by its digits."""
    return str(values) if isinstance(values, int) else values


class _Generator(CodeGenerator):
    """Jinja's compiler, with a look at the clock in every body and a bound on what `~` joins."""

    def blockvisit(self, body: Iterable[nodes.Node], frame: Frame) -> None:
        """The body of a loop, a branch, a macro or a block."""
        self.writeline("environment.tick()")
        super().blockvisit(body, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        """`a ~ b`."""
        self.write("environment.joined((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        """`a == b`, `a in b`: values in one another are walked over."""
        self.write("(environment.sized(")
        self.visit(node.expr, frame)
        self.write(")")
        for op in node.ops:
            self.visit(op, frame)
        self.write(")")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        """`a[b]`, or `a[b:c]`, which copies."""
        cut = isinstance(node.arg, nodes.Slice)
        if cut:
            self.write("environment.counted(")
        super().visit_Getitem(node, frame)
        if cut:
            self.write(")")

    def visit_Operand(self, node: nodes.Operand, frame: Frame) -> None:
        """What follows the sign of a comparison."""
        self.write(f" {operators[node.op]} environment.sized(")
        self.visit(node.expr, frame)
        self.write(")")


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's immutable sandbox, with bounds and these filters too; render inside `metered()`."""

    code_generator_class = _Generator
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, filters: Mapping[str, Callable[..., Any]], **options: Any) -> None:
        super().__init__(**options, finalize=self.sized)
        self.binop_table |= {"+": _plus, "*": _times, "**": _power, "%": _modulo}
        for name in ("lipsum", "cycler"):
            del self.globals[name]
        self.filters.update(filters)
        self.filters = {name: _bounded(name, body) for name, body in self.filters.items()}

    def tick(self) -> None:
        """Look at the clock."""
        meter = _METER.get(None)
        if meter is not None:
            meter.tick()

    @staticmethod
    def counted(value: Any) -> Any:
        """A part of a text or list, counted."""
        return _counted(value)

    def sized(self, value: Any) -> Any:
        """A value that is about to be walked over: said, compared."""
        if isinstance(value, (list, tuple, dict)):
            _size(value)
        return value

    def joined(self, parts: tuple[Any, ...]) -> str:
        """The texts of these, one after the other."""
        return self.concat(str(self.sized(part)) for part in parts)

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:
        """Pieces of text as one, counted as they come."""
        found, size = [], 0
        for piece in pieces:
            size += len(piece)
            if size > LONGEST:
                raise TooMuch(f"it makes more than {LONGEST:,} characters")
            found.append(piece)
        text: str = _counted("".join(found))
        return text

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """An operator that can grow what it gets."""
        return _counted(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """A call of a function, a macro or a method."""
        given = [*map(_held, args)]
        method = getattr(__obj, "__wrapped__", __obj)  # the sandbox wraps str.format
        owner, name = getattr(method, "__self__", None), getattr(method, "__name__", "")
        if isinstance(owner, (str, bytes)):
            if name == "replace" and len(given) > 1 and not kwargs:
                _replaced(str(owner), *given)
            else:
                values = [*given, *kwargs.values()]
                if name.startswith("format"):
                    _fixed_width(str(owner))
                    values = [_widest(str(owner)), *map(_said, values)]
                _checked([owner, *values])
        return _counted(super().call(__context, __obj, *given, **kwargs))


def _bounded(name: str, body: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that refuses what could grow beyond bounds, and whose result is counted."""

    @functools.wraps(body)  # which also carries what Jinja passes it first
    def call(*args: Any, **kwargs: Any) -> Any:
        first = 1 if hasattr(body, "jinja_pass_arg") else 0
        given = [*args[:first], *map(_held, args[first:])]
        values = [*given[first:], *kwargs.values()]
        if name == "replace" and len(values) > 2:
            _replaced(str(values[0]), *values[1:])
        elif name in _GROWS_NOTHING:
            for value in values:
                _size(value)
        else:
            if name == "format" and values:
                _fixed_percent(str(values[0]), tuple(map(_said, values[1:])))
            else:
                _checked(values)
        return _counted(body(*given, **kwargs))

    return call
