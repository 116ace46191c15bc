"""Detects the format of a checkpoint file and reads its content without running it."""

import pickle
import sys
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil

from attn_export.exporter.checkpoint.inert import hostile, listed
from attn_export.exporter.checkpoint.other_formats import read_other_format
from attn_export.exporter.checkpoint.pickles.files import PickleReader, names_in
from attn_export.exporter.checkpoint.pickles.unpickler import TooMuchError
from attn_export.exporter.checkpoint.user_code import Sources
from attn_export.exporter.errors import AttnExportError, UnreadableCheckpointError, UntrustedCheckpointError
from attn_export.exporter.system.file_kinds import CHECKPOINT, kind_of

ZIP_MAGIC = b"PK\x03\x04"
# First bytes of torch.save's formats before 1.6 (a pickle), and of the tar files before those.
# Weights hardly get smaller when they are packed, and torch.save doesn't pack them.
MOST_UNPACKED, SMALL = 20, 2**26
OLD_MAGICS = (b"\x80", b"sys_info", b"pickle", b"storages", b"tensors")


@dataclass(frozen=True)
class Payload:
    """What a checkpoint file held. ``not_run`` lists its names that were not imported."""

    content: Any
    not_run: tuple[str, ...] = ()


def read(path: Path, *, trust: bool = False, sources: Sources | None = None) -> Payload:
    """Read a file that ``torch.save`` wrote, in any of its formats, or one of `other_formats`, onto the CPU.

    Args:
        path: the file.
        trust: import and run what the file names, as ``torch.load(weights_only=False)`` does.
        sources: the user's own, whose classes may be made beside torch's layers; nothing else is imported.

    Raises:
        UnreadableCheckpointError: missing, a directory, empty, damaged, or not a checkpoint.
        UntrustedCheckpointError: reading it would run its code.
    """
    check_readable(path)
    if (content := read_other_format(path, trust=trust)) is not None:
        return Payload(content)
    check_pickled(path)
    if trust:
        with damage_reported(path):
            return Payload(_load(path, sources))
    return _read_inert(path, sources)


def _read_inert(path: Path, sources: Sources | None) -> Payload:
    """The file without what it names; then, where all that is torch's or the user's own, with it.

    Raises:
        UnreadableCheckpointError, UntrustedCheckpointError: see `read`.
    """
    content, names = _read_with({}, frozenset(), path)
    known = known_classes(names, sources)
    if not known:
        return Payload(content, tuple(names))
    called = frozenset(name for name in known if sources is not None and _layer(name) is None)
    content, names = _read_with(known, called, path)
    return Payload(content, tuple(names))


def _read_with(known: dict[str, Any], called: frozenset[str], path: Path) -> tuple[Any, list[str]]:
    """The object in the file, and the names in it that aren't known.

    Raises:
        UnreadableCheckpointError, UntrustedCheckpointError: see `read`.
    """
    reader = PickleReader(known, called)
    try:
        with damage_reported(path), path.open("rb") as stream:
            content = reader.read(stream, path.stat().st_size)
    except pickle.UnpicklingError as error:
        refuse_attacks(path, list(reader.names))
        if not reader.names:
            raise not_a_checkpoint(path, error) from error
        raise needs_code(path, list(reader.names)) from error
    except UnreadableCheckpointError:
        refuse_attacks(path, list(reader.names))
        raise
    refuse_attacks(path, list(reader.names))
    return content, list(reader.names)


def refuse_attacks(path: Path, names: Sequence[str]) -> None:
    """Refuse a file that names what only an attack would use.

    Raises:
        UntrustedCheckpointError: it does.
    """
    if attack := hostile(list(names)):
        raise UntrustedCheckpointError(
            f"{path} wants to call {listed(attack)}. Nothing was run. A checkpoint has no reason to do this",
            names=names,
            hint="Don't open it with anything that runs pickles. If you know better, --trust runs it.",
        )


@contextmanager
def damage_reported(path: Path) -> Iterator[None]:
    """Convert the errors of torch's readers on a damaged file.

    Bent bytes come out of them as almost any exception. Without ``--trust`` no code of the file's runs, so none of
    these is a defect of somebody's program.

    Raises:
        UnreadableCheckpointError: the file is damaged.
    """
    try:
        yield
    except (AttnExportError, pickle.UnpicklingError, MemoryError):
        raise
    except TooMuchError as error:
        raise UnreadableCheckpointError(
            f"{path} isn't read: {error}", hint="Save the weights alone: torch.save(model.state_dict(), 'model.pt')."
        ) from error
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UnreadableCheckpointError(
            f"{path} is truncated or damaged: {reason}",
            hint="Copy it again, and compare the sizes of the two files.",
        ) from error


def check_readable(path: Path) -> None:
    """Refuse files that aren't checkpoints.

    Raises:
        UnreadableCheckpointError: it can't be one.
    """
    if not path.exists():
        raise UnreadableCheckpointError(f"{path} does not exist", hint="Check the path.")
    if path.is_dir():
        raise UnreadableCheckpointError(
            f"{path} is a directory, not a checkpoint file", hint="Name the file in it: model.pt or the like."
        )
    if not path.is_file():
        raise UnreadableCheckpointError(f"{path} is a device or a pipe, and no file", hint="Copy it to a file.")
    try:
        with path.open("rb") as stream:
            head = stream.read(1)
    except OSError as error:
        raise UnreadableCheckpointError(f"{path} can't be read: {error.strerror}") from error
    if not head:
        raise UnreadableCheckpointError(f"{path} is empty", hint="Was it written to a full disk? Save it again.")
    size, memory = path.stat().st_size, psutil.virtual_memory().total
    if size > memory:
        raise UnreadableCheckpointError(
            f"{path} has {size / 2**30:.0f} GiB, and this machine {memory / 2**30:.0f} GiB of memory",
            hint="Save the weights alone, without the optimizer's state.",
        )


def check_pickled(path: Path) -> None:
    """Refuse files that torch.save didn't write.

    Raises:
        UnreadableCheckpointError: it can't be one of these.
    """
    with path.open("rb") as stream:
        head = stream.read(64)
        if (kind := kind_of(path)) is not None and kind is not CHECKPOINT:
            raise UnreadableCheckpointError(
                f"{path} is not a PyTorch checkpoint: it is {kind.name}", hint=kind.hint.format(path=path)
            )
        if head.startswith(ZIP_MAGIC):
            check_archive(path)
        elif not head.startswith(OLD_MAGICS) and not _names(path):
            raise UnreadableCheckpointError(
                f"{path} is not a PyTorch checkpoint: it starts with {head[:16]!r}",
                hint="Expected is a file that torch.save wrote.",
            )


def _names(path: Path) -> list[str]:
    with path.open("rb") as stream:
        return names_in(stream, path.stat().st_size)


def check_archive(path: Path) -> None:
    """Check the zip format of torch 1.6 and later: complete, and a checkpoint.

    Raises:
        UnreadableCheckpointError: it isn't.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [name.partition("/")[2] for name in archive.namelist()]
            checksums = any(entry.CRC for entry in archive.infolist())
            _refuse_bombs(archive, path)
            changed = [entry for entry in archive.infolist() if not _is_intact(archive, entry)]
    except AttnExportError:
        raise
    except Exception as error:  # zipfile raises a dozen types for damaged archives
        raise UnreadableCheckpointError(
            f"{path} is truncated or damaged: its table of contents can't be found",
            hint="Copy it again, and compare the sizes of the two files.",
        ) from error
    # A file may be written without checksums: torch.serialization.set_crc32_options.
    if changed and checksums:
        raise UnreadableCheckpointError(
            f"{path} is damaged: the checksum of {changed[0].filename} is wrong",
            hint="Copy it again from where it was made.",
        )
    if "data.pkl" not in entries:
        raise UnreadableCheckpointError(
            f"{path} is a zip archive without a checkpoint in it",
            hint="Expected is a file that torch.save wrote.",
        )


def _refuse_bombs(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse archives of parts that overlap, or that unpack to many times their size.

    Raises:
        UnreadableCheckpointError: it is one.
    """
    unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > MOST_UNPACKED * path.stat().st_size + SMALL:
        raise UnreadableCheckpointError(
            f"{path} unpacks to {unpacked / 2**30:.1f} GiB, many times its size",
            hint="torch.save doesn't pack its files: save it again.",
        )


def _is_intact(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    try:
        with archive.open(entry) as stream:
            while stream.read(2**20):
                pass
    except zipfile.BadZipFile as error:
        if "CRC" not in str(error):
            raise
        return False
    return True


def known_classes(names: Sequence[str], sources: Sources | None) -> dict[str, Any]:
    """Those of the names that stand in the user's sources or are torch's layers, with what they are.

    Without sources it is all or none: a module of torch's layers alone is made, of any other the weights are read.
    """
    found = {name: _layer(name) or (sources.find(name) if sources else None) for name in names}
    known = {name: value for name, value in found.items() if value is not None}
    return known if sources or len(known) == len(names) else {}


def _layer(full_name: str) -> Any:
    """A layer or a function of ``torch.nn``, or the set that every module holds; None for every other name."""
    from torch import nn

    if full_name in ("builtins.set", "__builtin__.set"):
        return set
    module, _, name = full_name.rpartition(".")
    if not module.startswith("torch.nn."):
        return None
    found = getattr(sys.modules.get(module), name, None)
    is_layer = isinstance(found, type) and issubclass(found, nn.Module)
    return found if is_layer or module == "torch.nn.functional" else None


def unpickler(sources: Sources | None) -> Any:
    """What ``torch.load`` takes as ``pickle_module``, so that classes of a script are found that is not running."""
    if sources is None:
        return None
    find = sources.find

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            found = find(f"{module}.{name}")
            return super().find_class(module, name) if found is None else found

    def load(file: Any, **options: Any) -> Any:
        return Unpickler(file, **options).load()

    return SimpleNamespace(__name__="pickle", Unpickler=Unpickler, load=load)


def needs_code(path: Path, names: Sequence[str]) -> UntrustedCheckpointError:
    """The error for a file whose weights need its code."""
    return UntrustedCheckpointError(
        f"{path} can't be read without running code: it wants {listed(names)}. Nothing was run",
        names=names,
        hint="Save the weights alone, torch.save(model.state_dict(), 'model.pt'), or use --trust if you know who "
        "made the file: it then runs whatever stands in it.",
    )


def no_weights(path: Path, keys: Sequence[str] = ()) -> UnreadableCheckpointError:
    """The error for a checkpoint without a state dict; ``keys`` are unusual names under which there is one."""
    if keys:
        return UnreadableCheckpointError(
            f"{path} holds no weights under a usual name, but under {listed(keys)}",
            hint=f"--checkpoint-key {keys[0]} takes these.",
        )
    return UnreadableCheckpointError(
        f"{path} holds no weights",
        hint="Expected is a state dict, bare or under one of the usual names such as 'state_dict' or 'model'.",
    )


def not_a_checkpoint(path: Path, error: Exception) -> UnreadableCheckpointError:
    """The error for a file that isn't one of torch's pickles."""
    reason = (str(error).partition("WeightsUnpickler error:")[2] or str(error)).strip().partition("\n")[0]
    return UnreadableCheckpointError(
        f"{path} is not a PyTorch checkpoint that can be read without running code ({reason or type(error).__name__})",
        hint="Expected is a file that torch.save wrote, with its default pickle_protocol.",
    )


def _load(path: Path, sources: Sources | None) -> Any:
    """The object in a trusted file, with everything that it names."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; unreadable ones raise an error below
            return torch.load(path, map_location="cpu", weights_only=False, pickle_module=unpickler(sources))
    except (ImportError, AttributeError) as error:
        raise UnreadableCheckpointError(
            f"{path} needs code that isn't here: {error}",
            hint="--code DIR names the folder of the training code, or --code FILE.py the script that saved it. A "
            "package that it names has to be installed.",
        ) from error
    except pickle.UnpicklingError as error:
        raise not_a_checkpoint(path, error) from error
