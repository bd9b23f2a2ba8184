"""Functions that a user names: module:function, or file.py:function. Only what is named is run."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from edgetfm.errors import InputError

_IN_MODULE = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*)")
_IN_FILE = re.compile(r"(.+\.py):([A-Za-z_]\w*)")


def names_function(spec: object) -> bool:
    """Whether a text has the form module:function or file.py:function."""
    return isinstance(spec, str) and any(p.fullmatch(spec) for p in (_IN_MODULE, _IN_FILE))


def import_function(spec: str) -> Callable[..., Any]:
    """The function that `spec` names; its module is run, from the working directory or the path.

    Raises InputError for what cannot be imported, is absent or is no function.
    """
    in_file = _IN_FILE.fullmatch(spec)
    named = in_file or _IN_MODULE.fullmatch(spec)
    if named is None:
        raise InputError(f"{spec} names no function: give module:function or file.py:function")
    where, name = named.groups()
    folder = Path(where).parent if in_file else Path.cwd()
    with _first_on_path(folder), users_code(where, "cannot be imported"):
        module = _run_file(Path(where)) if in_file else importlib.import_module(where)
        found = getattr(module, name, None)
    if found is None:
        raise InputError(f"{where} has no function '{name}'")
    if not callable(found):
        raise InputError(f"{spec} is {type(found).__name__}, expected a function")
    function: Callable[..., Any] = found
    return function


def _run_file(file: Path) -> ModuleType:
    """A file as a module, under a name that no other module has."""
    name = f"edgetfm_users_{file.stem}"
    given = importlib.util.spec_from_file_location(name, file)
    assert given is not None  # its name ends in .py
    assert given.loader is not None
    module = importlib.util.module_from_spec(given)
    sys.modules[name] = module  # dataclasses look their module up
    given.loader.exec_module(module)
    return module


@contextmanager
def _first_on_path(folder: Path) -> Iterator[None]:
    here = str(folder.resolve())
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        with suppress(ValueError):  # the module may have changed it
            sys.path.remove(here)


@contextmanager
def users_code(
    name: str, did: str = "failed", error: type[InputError] = InputError
) -> Iterator[None]:
    """Whatever code of the user raises becomes an `error`, sys.exit too, but not Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as raised:
        raise error(f"{name} {did}: {type(raised).__name__}: {shown(raised, str)}") from raised


def shown(value: Any, how: Callable[[Any], str] = repr) -> str:
    """A value of the user's in short; its type where it cannot be shown."""
    try:
        return f"{how(value):.200}"
    except KeyboardInterrupt:
        raise
    except BaseException:  # it is the user's code that shows it
        return f"a {type(value).__name__} that cannot be shown"
