"""The user's own sources: found, imported, and called to build the network.

Naming sources is trusting them: ``--code`` and ``--factory`` import what they name, and nothing else.
"""

import contextlib
import difflib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from attn_export.exporter.errors import InputError, UsageError, first_line


@dataclass(frozen=True)
class Sources:
    """Where the user's code is.

    Attributes:
        folder: its packages and modules are imported by their own names.
        script: the module of the file that was named, None for a folder.
    """

    folder: Path
    script: ModuleType | None = None

    def find(self, full_name: str) -> Any:
        """What a pickle calls ``package.module.Class``, or None if it isn't in these sources.

        Raises:
            InputError: its module raises an error when it is imported.
        """
        module_name, _, name = full_name.rpartition(".")
        if self.script is not None and hasattr(self.script, name):
            return getattr(self.script, name)
        if not self._holds(module_name.partition(".")[0]):
            return None
        return getattr(imported(module_name), name, None)

    def _holds(self, package: str) -> bool:
        return (self.folder / package).is_dir() or (self.folder / f"{package}.py").is_file()


def open_sources(code: Path | None) -> Sources:
    """The sources in a folder or a file; the current folder if none is named. They are importable from now on.

    Raises:
        UsageError: there is no such folder or Python file.
        InputError: the file raises an error when it is imported.
    """
    place = Path.cwd() if code is None else code.absolute()
    if not place.is_dir() and not (place.is_file() and place.suffix == ".py"):
        problem = "is neither a folder nor a Python file" if place.exists() else "isn't there"
        raise UsageError(
            f"--code {code} {problem}", hint="Name the folder of your training code, or a file: FILE.py:NAME."
        )
    folder = place if place.is_dir() else place.parent
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    return Sources(folder, None if place.is_dir() else _script(place))


def build(factory: str, kwargs: Mapping[str, Any], code: Path | None) -> nn.Module:
    """Build the user's network.

    The factory is ``package.module:function``; a class will do.

    Raises:
        UsageError: there is no such module or function.
        InputError: it raises an error, or returns something else than a module.
    """
    sources = open_sources(code)
    module_name, _, name = factory.partition(":")
    script = sources.script
    module = script if script is not None and script.__name__ == module_name else imported(module_name, factory)
    function = _attribute(module, name)
    with failures_reported(f"{factory} failed", hint=_signature(function)):
        network = function(**kwargs)
    if not isinstance(network, nn.Module):
        what = f"the class {network.__name__}" if isinstance(network, type) else f"a {type(network).__name__}"
        raise InputError(
            f"{factory} returned {what}, expected is a network, an nn.Module",
            hint="Name the function or class that builds the network.",
        )
    return network


def imported(name: str, factory: str = "") -> ModuleType:
    """The module of this name.

    Raises:
        UsageError: there is none.
        InputError: it raises an error when it is imported, or needs a package that isn't installed.
    """
    with failures_reported(f"{name} can't be imported"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
            raise UsageError(
                f"--factory {factory}: there is no module {error.name}"
                if factory
                else f"there is no module {error.name}",
                hint="--code DIR names the folder that it is in.",
            ) from error


def _script(path: Path) -> ModuleType:
    """A file as a module; other modules find it under its name, unless that is taken."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    with failures_reported(f"{path.name} can't be imported"):
        spec.loader.exec_module(module)
    return module


def _attribute(module: ModuleType, name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            near = difflib.get_close_matches(part, [n for n, v in vars(found).items() if callable(v)], n=3)
            raise UsageError(
                f"{module.__name__} has no {name}",
                hint=f"Did you mean {' or '.join(near)}?"
                if near
                else "Expected is --code FILE.py:CLASS or --factory package.module:function.",
            )
        found = getattr(found, part)
    if not callable(found):
        raise UsageError(
            f"{module.__name__}:{name} is a {type(found).__name__}, expected is a function or a class",
            hint="Name what builds the network.",
        )
    return found


def _signature(function: Any) -> str:
    try:
        return f"It takes {inspect.signature(function)}; --kwargs '{{\"name\": value}}' passes arguments."
    except (TypeError, ValueError):
        return "--kwargs '{\"name\": value}' passes arguments."


@contextlib.contextmanager
def failures_reported(what: str, hint: str = "") -> Iterator[None]:
    """Turn what the user's code raises into an error with its place; what it prints goes to standard error."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (UsageError, InputError, MemoryError):
        raise
    except SystemExit as error:
        raise InputError(
            f"{what}: the code ends the program",
            hint='Put what a script does under `if __name__ == "__main__":`, so that it can be imported.',
        ) from error
    except ModuleNotFoundError as error:
        raise InputError(
            f"{what}: {error}{_place(error)}", hint="Install it, or name its folder: --code DIR."
        ) from error
    except Exception as error:
        raise InputError(
            f"{what}: {type(error).__name__}: {first_line(error)}{_place(error)}",
            hint=hint or "--debug shows the traceback.",
        ) from error


def _place(error: Exception) -> str:
    """The innermost line of the user's code, `` (net.py, line 12)``."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    ours = [frame for frame in frames if not frame.filename.startswith("<frozen")]
    return f" ({Path(ours[-1].filename).name}, line {ours[-1].lineno})" if ours else ""
