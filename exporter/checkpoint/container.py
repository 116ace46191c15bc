"""Detects the format of a checkpoint file and reads its content without running it."""

import pickle
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from attn_export.exporter.checkpoint.inert import listed, refuse_attacks
from attn_export.exporter.checkpoint.other_formats import read_other_format
from attn_export.exporter.checkpoint.pickles.files import PickleReader
from attn_export.exporter.checkpoint.pickles.unpickler import TooMuchError
from attn_export.exporter.checkpoint.readable import check_pickled, check_readable
from attn_export.exporter.checkpoint.shards import files_of
from attn_export.exporter.checkpoint.user_code import Sources
from attn_export.exporter.errors import (
    AttnExportError,
    InputError,
    UnreadableCheckpointError,
    UntrustedCheckpointError,
    first_line,
)


@dataclass(frozen=True)
class Payload:
    """What a checkpoint file held.

    Attributes:
        content: an object, a state dict or a `program.Program`.
        not_run: its names that were not imported.
        is_script: whether these are the weights of a TorchScript archive.
        files: those that it was read from.
    """

    content: Any
    not_run: tuple[str, ...] = ()
    is_script: bool = False
    files: tuple[Path, ...] = ()


def read(path: Path, *, trust: bool = False, sources: Sources | None = None) -> Payload:
    """Read a file that ``torch.save`` wrote, in any of its formats, or one of `other_formats`, onto the CPU.

    ``trust`` imports and runs what the file names; classes of the user's ``sources`` may be made beside torch's layers.

    Raises:
        UnreadableCheckpointError: missing, a directory, empty, damaged, or not a checkpoint.
        UntrustedCheckpointError: reading it would run its code.
    """
    check_readable(path)
    files = files_of(path)
    parts = [_read_file(file, trust, sources) for file in files]
    if len(parts) == 1:
        return replace(parts[0], files=files)
    weights = {name: value for part in parts if isinstance(part.content, dict) for name, value in part.content.items()}
    return Payload(weights, tuple(dict.fromkeys(name for part in parts for name in part.not_run)), files=files)


def _read_file(path: Path, trust: bool, sources: Sources | None) -> Payload:
    check_readable(path)
    if (found := read_other_format(path, trust=trust)) is not None:
        return Payload(found[0], is_script=found[1])
    check_pickled(path)
    if trust:
        with damage_reported(path):
            return Payload(_load(path, sources))
    return _read_inert(path, sources)


def _read_inert(path: Path, sources: Sources | None) -> Payload:
    """The file without what it names; then, where all that is torch's or the user's own, with it."""
    content, names = _read_with({}, frozenset(), path)
    known = known_classes(names, sources)
    if not known:
        return Payload(content, tuple(names))
    called = frozenset(name for name in known if sources is not None and _layer(name) is None)
    content, names = _read_with(known, called, path)
    return Payload(content, tuple(names))


def _read_with(known: dict[str, Any], called: frozenset[str], path: Path) -> tuple[Any, list[str]]:
    """The object in the file, and the names in it that aren't known."""
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
        raise UnreadableCheckpointError(
            f"{path} is truncated or damaged: {first_line(error)}",
            hint="Copy it again, and compare the sizes of the two files.",
        ) from error


def known_classes(names: Sequence[str], sources: Sources | None) -> dict[str, Any]:
    """Those of the names that stand in the user's sources or are torch's layers, with what they are.

    Without sources it is all or none: a module of torch's layers alone is made, of any other the weights are read.
    """
    found = {name: _layer(name) or (sources.find(name) if sources else None) for name in names}
    known = {name: value for name, value in found.items() if value is not None}
    return known if sources or len(known) == len(names) else {}


def _layer(full_name: str) -> Any:
    """A layer or a function of torch, or the set that every module holds; None for every other name."""
    import torch.optim.swa_utils
    from torch import nn

    if full_name in ("builtins.set", "__builtin__.set"):
        return set
    if full_name == "torch.optim.swa_utils.AveragedModel":
        return torch.optim.swa_utils.AveragedModel
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


def no_weights(path: Path, keys: Sequence[str] = (), held: str = "") -> UnreadableCheckpointError:
    """The error for a checkpoint without a state dict but under unusual ``keys``; ``held`` is what is there."""
    if keys:
        return UnreadableCheckpointError(
            f"{path} holds no weights under a usual name, but under {listed(keys)}",
            hint="--code FILE.py:CLASS builds your network, and those that fit it are taken. --checkpoint-key "
            f"{keys[0]} takes the first of a network of this project.",
        )
    return UnreadableCheckpointError(
        f"{path} holds no weights{held and f', but {held}'}",
        hint="Expected is a state dict, bare or under one of the usual names such as 'state_dict' or 'model'.",
    )


def not_a_checkpoint(path: Path, error: Exception) -> UnreadableCheckpointError:
    """The error for a file that isn't one of torch's pickles."""
    return UnreadableCheckpointError(
        f"{path} is not a PyTorch checkpoint that can be read without running code ({first_line(error)})",
        hint="Expected is a file that torch.save wrote, with its default pickle_protocol.",
    )


def _load(path: Path, sources: Sources | None) -> Any:
    """The object in a trusted file, with everything that it names."""
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; unreadable ones raise an error below
            return torch.load(path, map_location="cpu", weights_only=False, pickle_module=unpickler(sources))
    except RuntimeError as error:
        if "magic number" not in str(error):
            raise
        with path.open("rb") as stream:  # of pickle.dump
            return (unpickler(sources) or pickle).load(stream)
    except (ImportError, AttributeError) as error:
        raise UnreadableCheckpointError(
            f"{path} needs code that isn't here: {error}",
            hint="--code DIR names the folder of the training code, or --code FILE.py the script that saved it. A "
            "package that it names has to be installed.",
        ) from error
    except pickle.UnpicklingError as error:
        raise not_a_checkpoint(path, error) from error


def quantized(path: Path) -> InputError:
    """The error for int8 weights of torch.ao, with which no float network computes."""
    return InputError(
        f"{path} holds a network that torch.ao quantized; expected are float weights",
        hint="Export the float checkpoint that it was made from; attn-export quantize then writes an int8 ONNX file.",
    )
