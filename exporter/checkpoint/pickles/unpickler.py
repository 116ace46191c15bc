"""An unpickler that imports nothing.

The standard library's in Python is taken, and not torch's ``weights_only`` unpickler, because of what a file can do to
the latter: names by the hundred thousand, tuples as keys that a million tuples stand in, constructors of any size and
codecs cost it minutes, gigabytes or the process; and because it reads protocol 2 alone, and no TorchScript.
"""

import io
import pickle
from collections.abc import Callable, Mapping
from itertools import islice
from typing import IO, Any, ClassVar

import torch

from attn_export.exporter.checkpoint.inert import Inert, inert_class
from attn_export.exporter.checkpoint.pickles.arrays import Array, DType, from_state
from attn_export.exporter.checkpoint.pickles.names import HARMLESS, Pairs, is_key
from attn_export.exporter.checkpoint.tensors import Views

MOST_STEPS = 3_000_000
MOST_NAMES = 10_000
# Beside the size of the file.
MOST_COPIED = 2**27
# Between an array and its state: the parts of its state.
MOST_PUT = 32


class TooMuchError(Exception):
    """A pickle holds more than a checkpoint does; the text says of what."""


class Bounded(io.RawIOBase):
    """A file from where it stands; what isn't there is missed before memory is taken for it."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._size = stream, size

    def read(self, size: int = -1) -> bytes:
        """Exactly so many bytes. Raises EOFError: there are fewer."""
        if size > self._size - self._stream.tell():
            raise EOFError("it ends inside a value")
        return self._stream.read(size)

    def readline(self, size: int | None = -1) -> bytes:
        """Up to the next line's end."""
        return self._stream.readline(-1 if size is None else size)


class InertUnpickler(pickle._Unpickler):  # noqa: SLF001 (the one in C can't be kept from hashing what it reads)
    """Reads one pickle.

    Args:
        stream: from where it begins.
        persistent: what a persistent id stands for, such as a storage.
        known: classes and functions that may be made, by full name; nothing else is.
        called: those of them that a pickle may call, not only refer to.
        names: takes the names that aren't harmless, with their inert classes, in order of appearance.
        made: functions of this file alone, by full name.
        views: the tensors of the whole file.
    """

    memo: dict[int, Any]

    def __init__(
        self,
        stream: Any,
        persistent: Callable[[Any], Any],
        *,
        known: Mapping[str, Any],
        called: frozenset[str],
        names: dict[str, Any],
        made: Mapping[str, Any],
        views: Views,
    ) -> None:
        super().__init__(stream, encoding="utf-8", errors="surrogateescape")
        self._persistent, self._known, self._names = persistent, known, names
        self._made, self._views = made, views
        self._left = MOST_COPIED + views.size
        self._uncalled = [value for name, value in known.items() if name not in called]

    def load(self) -> Any:
        """The object.

        Raises:
            pickle.UnpicklingError: it can't be made without what it names, or is no pickle.
            TooMuchError: there is too much of it.
            Exception: of many types, it is damaged.
        """
        unframer = pickle._Unframer(self._file_read, self._file_readline)  # type: ignore[attr-defined] # noqa: SLF001
        self._unframer = unframer
        self.read, self.readinto, self.readline = unframer.read, unframer.readinto, unframer.readline
        self.metastack: list[Any] = []
        self.stack: list[Any] = []
        self.append = self.stack.append
        self.proto = 0
        read, dispatch = self.read, self.dispatch
        try:
            for _ in range(MOST_STEPS):
                key = read(1)
                step = dispatch.get(key[0])
                if step is None:
                    raise pickle.UnpicklingError(f"{key!r} is no step of a pickle")
                step(self)
        except pickle._Stop as stop:  # type: ignore[attr-defined] # noqa: SLF001
            return stop.value
        raise TooMuchError(f"its pickle has more than {MOST_STEPS} steps")

    def find_class(self, module: str, name: str) -> Any:
        """What a name stands for: something harmless, something known, or an inert class."""
        full_name = f"{module}.{name}"
        if full_name in self._known:
            return self._known[full_name]
        if (found := self._made.get(full_name, HARMLESS.get(full_name))) is not None:
            return found
        if full_name not in self._names:
            if len(self._names) >= MOST_NAMES:
                raise TooMuchError(f"it names more than {MOST_NAMES} classes")
            self._names[full_name] = inert_class(full_name)
        return self._names[full_name]

    def persistent_load(self, pid: Any) -> Any:
        """A storage, or the class of a module in the format before PyTorch 1.6."""
        return self._persistent(pid)

    def _reduce(self) -> None:
        args = self.stack.pop()
        function = self.stack[-1]
        if any(function is known for known in self._uncalled):
            raise pickle.UnpicklingError(f"it calls {function.__name__}")
        self._check_arguments(args)
        self.stack[-1] = function(*args)

    def _new(self) -> None:
        args = self.stack.pop()
        made = self.stack.pop()
        self._check_arguments(args)
        self.append(made.__new__(made, *args))

    def _new_with_names(self) -> None:
        self.stack.pop()
        self._new()

    def _check_arguments(self, args: Any) -> None:
        """Arguments are a tuple, and not the numbers of a tensor; what is copied of one large value adds up."""
        if type(args) is not tuple:
            raise pickle.UnpicklingError("it calls something with arguments that are no tuple")
        self._left -= sum(map(_copied, args))
        if self._left < 0:
            raise TooMuchError("its pickle copies its parts again and again")

    def _instantiate(self, klass: Any, args: Any) -> None:
        """Of the steps INST and OBJ."""
        self.stack += [klass, tuple(args)]
        self._reduce()

    def _build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Array):
            self._put_in_place(target, from_state(state, self._views))
        elif isinstance(target, Inert | Pairs | DType) or type(target) in self._known.values():
            self.stack.append(state)
            super().load_build()  # type: ignore[misc]
        elif not isinstance(target, torch.Tensor):
            raise pickle.UnpicklingError(f"it changes a {type(target).__name__}")

    def _put_in_place(self, array: Array, tensor: Any) -> None:
        """The tensor for the array, also in the memo, where it was put shortly before."""
        self.stack[-1] = tensor
        for key in islice(reversed(self.memo), MOST_PUT):
            if self.memo[key] is array:
                self.memo[key] = tensor

    def _append(self) -> None:
        value = self.stack.pop()
        self._extend([value])

    def _appends(self) -> None:
        self._extend(self.pop_mark())  # type: ignore[attr-defined]

    def _extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(values)
        elif not isinstance(target, Inert):
            raise pickle.UnpicklingError(f"it appends to a {type(target).__name__}")

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def _set_items(self) -> None:
        self._update(self.pop_mark())  # type: ignore[attr-defined]

    def _dict(self) -> None:
        items = self.pop_mark()  # type: ignore[attr-defined]
        self.append({})
        self._update(items)

    def _update(self, items: list[Any]) -> None:
        target, keys = self.stack[-1], items[::2]
        if isinstance(target, Inert):
            return
        if not isinstance(target, dict) or not all(map(is_key, keys)):
            raise pickle.UnpicklingError("it has a key that is no name or number")
        target.update(zip(keys, items[1::2], strict=True))

    def _add_items(self) -> None:
        items = self.pop_mark()  # type: ignore[attr-defined]
        self._check_set(items)
        self.stack[-1].update(items)

    def _frozenset(self) -> None:
        items = self.pop_mark()  # type: ignore[attr-defined]
        self._check_set(items)
        self.append(frozenset(items))

    def _check_set(self, items: list[Any]) -> None:
        if not all(map(is_key, items)):
            raise pickle.UnpicklingError("it has a set of other things than names and numbers")

    def _bytearray(self) -> None:
        size = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(size)))

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **pickle._Unpickler.dispatch,  # noqa: SLF001
        pickle.REDUCE[0]: _reduce,
        pickle.NEWOBJ[0]: _new,
        pickle.NEWOBJ_EX[0]: _new_with_names,
        pickle.BUILD[0]: _build,
        pickle.APPEND[0]: _append,
        pickle.APPENDS[0]: _appends,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
        pickle.DICT[0]: _dict,
        pickle.ADDITEMS[0]: _add_items,
        pickle.FROZENSET[0]: _frozenset,
        pickle.BYTEARRAY8[0]: _bytearray,
    }


def _copied(value: Any) -> int:
    """How much of an argument a call may copy."""
    return len(value) if isinstance(value, str | bytes | list | tuple | dict | set) else 0
