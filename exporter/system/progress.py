"""How the library tells what it is doing, without knowing who listens. It never prints."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

Advance = Callable[[float], None]
"""Takes the share of the stage that is done, 0..1."""


class Progress(Protocol):
    """A make_progress."""

    def stage(self, title: str) -> AbstractContextManager[Advance]:
        """Entered when a stage begins, left when it ends."""

    def note(self, message: str) -> None:
        """Something the user should know, though nothing is wrong."""


class NullProgress:
    """Nobody listens."""

    def stage(self, title: str) -> AbstractContextManager[Advance]:  # noqa: ARG002
        """Ignore the stage."""
        return nullcontext(lambda _: None)

    def note(self, message: str) -> None:
        """Ignore the note."""


def counted(advance: Advance, total: int) -> Callable[[], None]:
    """A callback for work of ``total`` equal parts, to be called after each."""
    done = 0

    def one_more() -> None:
        nonlocal done
        done += 1
        advance(done / total)

    return one_more
