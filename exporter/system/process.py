"""Other programs, asked for a moment: one that hangs or crashes says nothing, and costs no more than its time."""

import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

SECONDS_TO_DIE = 0.5


@dataclass(frozen=True)
class Finished:
    """A program that came to an end, by itself or by a signal, which is a negative ``code``."""

    code: int
    out: str
    err: str


def ask(command: Sequence[str], seconds: float) -> Finished | None:
    """Run a program without a shell and without input.

    Returns:
        None where it had not finished after ``seconds``.

    Raises:
        OSError: it can't be started.
    """
    process = subprocess.Popen(  # noqa: S603 (the callers' own words, never a user's)
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        # Not waited for without end: what hangs in a driver can't be killed.
        process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(SECONDS_TO_DIE)
        return None
    except BaseException:
        process.kill()
        raise
    return Finished(process.returncode, out, err)
