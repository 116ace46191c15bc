"""Which CPUs a process may use, chosen for all of its threads."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from attn_export.exporter.errors import UsageError
from attn_export.exporter.system.machine import usable_cpu_numbers

TASKS = Path("/proc/self/task")
ITSELF = 0


def check_cpus(cpus: Iterable[int]) -> tuple[int, ...]:
    """The CPUs in ascending order, each once.

    Raises:
        UsageError: there are none, one isn't there or isn't this process's, or the system doesn't let it choose.
    """
    wanted, usable = tuple(sorted(set(cpus))), usable_cpu_numbers()
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError("this system doesn't let a process choose its CPUs", hint="Leave the choice out.")
    if not wanted:
        raise UsageError("no CPU was chosen", hint=f"This process may use {_listed(usable)}.")
    if others := [cpu for cpu in wanted if cpu not in usable]:
        raise UsageError(
            f"this process can't use CPU {_listed(others)}: it isn't there, or others keep it for themselves",
            hint=f"It may use {_listed(usable)}.",
        )
    return wanted


@contextmanager
def pinned(cpus: Sequence[int]) -> Iterator[None]:
    """Inside, every thread of this process uses these CPUs alone, and so does what it starts.

    The system keeps a choice for each thread, and a library's threads that were there before don't follow the one that
    chooses; so each is told. Afterwards each has what it had, and one that began inside what the caller had.

    Raises:
        UsageError: as `check_cpus`.
    """
    wanted = set(check_cpus(cpus))
    usual = os.sched_getaffinity(ITSELF)
    before: dict[int, set[int]] = {}
    try:
        _choose(wanted, before)
        if os.sched_getaffinity(ITSELF) != wanted:
            raise UsageError(f"the system doesn't grant CPU {_listed(sorted(wanted))}", hint="Choose others.")
        yield
    finally:
        for thread in _threads():
            with suppress(OSError):  # it has ended, or its CPUs are gone
                os.sched_setaffinity(thread, before.get(thread) or usual)


def _choose(wanted: set[int], before: dict[int, set[int]]) -> None:
    """Tell every thread, those too that begin meanwhile, and write down what each had.

    Raises:
        UsageError: the system refuses.
    """
    while new := [thread for thread in _threads() if thread not in before]:
        for thread in new:
            before[thread] = set()
            try:
                before[thread] = os.sched_getaffinity(thread)
                os.sched_setaffinity(thread, wanted)
            except ProcessLookupError:  # it has ended
                continue
            except OSError as error:
                raise UsageError(
                    f"the system doesn't let this process choose its CPUs: {error.strerror}",
                    hint="Leave the choice out.",
                ) from error


def _threads() -> list[int]:
    """By their numbers; the caller's own where the system doesn't list them."""
    try:
        return [int(place.name) for place in TASKS.iterdir()]
    except OSError:
        return [ITSELF]


def _listed(cpus: Sequence[int]) -> str:
    return ", ".join(map(str, cpus))
