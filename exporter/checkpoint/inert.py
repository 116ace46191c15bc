"""What stands for the names in a pickle, so that nothing is imported or run.

A pickle is a program: it names functions and classes, and the normal unpickler imports and calls them. torch's
``weights_only`` unpickler knows a list of harmless names and stops at any other. Here every other name is given an
inert class: calling it makes an object that keeps its state and does nothing. So the tensors of a training checkpoint
that also holds an ``argparse.Namespace``, and of a whole pickled module, are read without the code they came from.
"""

from collections.abc import Sequence
from typing import Any

from typing_extensions import Self

# No legitimate checkpoint calls these. They wouldn't run here, but such a file is an attack on other readers.
HOSTILE_MODULES = frozenset(
    "__builtin__ asyncio bdb builtins code codeop commands ctypes distutils ftplib http importlib marshal "
    "multiprocessing nt os pdb pickle pip pkgutil platform posix profile pty requests runpy shutil signal site smtplib "
    "socket ssl subprocess sys telnetlib tempfile threading timeit trace urllib venv webbrowser zipimport".split()
)
SHOWN, LONG = 6, 200
HARMLESS_BUILTINS = frozenset(
    "bool bytearray bytes complex dict float frozenset getattr int list object range set slice str tuple".split()
)


class Inert:
    """Placeholder for an object whose class was not imported.

    Attributes:
        full_name: of the class, with its module.
        state: the pickled state.
    """

    full_name = ""
    state: Any = None

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Take any arguments and do nothing with them."""
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


def inert_class(full_name: str) -> type[Inert]:
    """A placeholder class for one foreign name; the unpickler looks classes up by name."""
    return type(full_name.rpartition(".")[2], (Inert,), {"full_name": full_name})


def hostile(names: list[str]) -> list[str]:
    """Those names that only an attack, never a checkpoint, would use."""

    def is_hostile(full_name: str) -> bool:
        root, _, rest = full_name.partition(".")
        if root in ("builtins", "__builtin__"):
            return rest not in HARMLESS_BUILTINS
        return root in HOSTILE_MODULES

    return [name for name in names if is_hostile(name)]


def listed(names: Sequence[str]) -> str:
    """The first names, without the middle of long ones, and the number of further ones."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(name if len(name) <= LONG else f"{name[: LONG // 2]}…" for name in names[:SHOWN]) + more
