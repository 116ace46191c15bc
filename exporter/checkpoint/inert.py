"""What stands for the names in a pickle, so that nothing is imported or run.

A pickle is a program: it names functions and classes, and the normal unpickler imports and calls them. torch's
``weights_only`` unpickler knows a list of harmless names and stops at any other. Here every other name is given an
inert class: calling it makes an object that keeps its state and does nothing. So the tensors of a training checkpoint
that also holds an ``argparse.Namespace``, and of a whole pickled module, are read without the code they came from.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typing_extensions import Self

from attn_export.exporter.errors import UntrustedCheckpointError

# No legitimate checkpoint calls what stands in these. Nothing runs here, but such a file is an attack on other readers.
HOSTILE_MODULES = frozenset(
    "__builtin__ _aix_support _io _osx_support _pickle _pyrepl aiohttp asyncio bdb builtins cProfile code codeop "
    "commands ctypes distutils doctest ensurepip ftplib http httplib idlelib imaplib importlib lib2to3 marshal "
    "multiprocessing nt numpy.f2py numpy.testing os pdb pickle pip pkgutil platform posix profile pty pydoc "
    "requests runpy shutil signal site smtplib socket ssl subprocess sys telnetlib tempfile test threading timeit "
    "torch._dynamo torch._inductor torch.fx.experimental torch.hub torch.jit.load "
    "torch.jit.unsupported_tensor_ops torch.load torch.ops.load_library torch.serialization.load "
    "torch.utils.bottleneck torch.utils.collect_env trace urllib venv webbrowser zipimport".split()
)
# What torch.compile puts around a module.
COMPILED = frozenset(
    f"torch._dynamo.{name}"
    for name in (
        "eval_frame.OptimizeContext convert_frame.CatchErrorsWrapper convert_frame.ConvertFrame "
        "convert_frame.ConvertFrameAssert convert_frame.ConvertFrameBox repro.after_dynamo.WrapBackendDebug hooks.Hooks"
    ).split()
)
SHOWN, LONG, LONGEST_NAME = 6, 200, 500
HARMLESS_BUILTINS = frozenset(
    "bool bytearray bytes complex dict float frozenset getattr int list object range set slice str tuple".split()
)


class Inert:
    """Placeholder for an object whose class was not imported. ``full_name``: of the class, with its module."""

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
        parts = full_name.split(".", 4)
        return any(".".join(parts[:end]) in HOSTILE_MODULES for end in range(1, len(parts) + 1))

    return [name for name in names if name not in COMPILED and is_hostile(name)]


def refuse_attacks(path: Path, names: Sequence[str]) -> None:
    """Refuse a file that names what only an attack would use. Raises UntrustedCheckpointError: it does."""
    if attack := hostile(list(names)):
        raise UntrustedCheckpointError(
            f"{path} wants to call {listed(attack)}. Nothing was run. A checkpoint has no reason to do this",
            names=names,
            hint="Don't open it with anything that runs pickles. If you know better, --trust runs it.",
        )


def is_name(value: Any) -> bool:
    """Whether something may be the name of a weight: text of one line, and not a million letters of it."""
    return isinstance(value, str) and len(value) <= LONGEST_NAME and value.isprintable()


def listed(names: Sequence[str]) -> str:
    """The first names, each in one line, and the number of further ones."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(shown, names[:SHOWN])) + more


def shown(name: str) -> str:
    """A name in one line; an honest one as it is."""
    if is_name(name):
        return name
    text = name[:LONG] if name.isprintable() else ascii(name[:LONG])
    return text if len(name) <= LONG else f"{text}…"
