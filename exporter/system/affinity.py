"""CPU affinity of all threads of this process."""

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
        UsageError: there are none, one is unavailable to this process, or the system has no CPU affinity.
    """
    wanted, usable = tuple(sorted(set(cpus))), usable_cpu_numbers()
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError("this system doesn't support CPU affinity", hint="Leave the CPUs out.")
    if not wanted:
        raise UsageError("no CPU is given", hint=f"This process may use {_listed(usable)}.")
    if others := [cpu for cpu in wanted if cpu not in usable]:
        raise UsageError(
            f"this process can't use CPU {_listed(others)}: it doesn't exist, or is reserved for others",
            hint=f"It may use {_listed(usable)}.",
        )
    return wanted


@contextmanager
def pinned(cpus: Sequence[int]) -> Iterator[None]:
    """Pin every thread of this process, and its child processes, to these CPUs.

    Affinity is set for each thread, because existing threads of libraries don't inherit it. At exit each thread
    gets its former affinity, and threads started meanwhile get the caller's.

    Raises:
        UsageError: as `check_cpus`.
    """
    wanted = set(check_cpus(cpus))
    default = os.sched_getaffinity(ITSELF)
    before: dict[int, set[int]] = {}
    try:
        _choose(wanted, before)
        if os.sched_getaffinity(ITSELF) != wanted:
            raise UsageError(f"the system denies CPU {_listed(sorted(wanted))}", hint="Choose others.")
        yield
    finally:
        for thread in _threads():
            with suppress(OSError):  # it has ended, or its CPUs are gone
                os.sched_setaffinity(thread, before.get(thread) or default)


def _choose(wanted: set[int], before: dict[int, set[int]]) -> None:
    """Set the affinity of every thread, including those started meanwhile; ``before`` gets the former ones."""
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
                    f"the CPU affinity can't be set: {error.strerror}",
                    hint="Leave the CPUs out.",
                ) from error


def _threads() -> list[int]:
    """The thread ids; only the caller's if the system doesn't list them."""
    try:
        return [int(place.name) for place in TASKS.iterdir()]
    except OSError:
        return [ITSELF]


def _listed(cpus: Sequence[int]) -> str:
    return ", ".join(map(str, cpus))
