"""Progress callbacks; the command line shows them, the library never prints."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

Advance = Callable[[float], None]
"""Receives the finished share of a stage, 0..1."""


LOGGER = logging.getLogger("attn_export")
LOGGER.addHandler(logging.NullHandler())  # or Python would print warnings where nobody configured logging


class Progress(Protocol):
    """Receives stages and notes."""

    def stage(self, title: str) -> AbstractContextManager[Advance]:
        """Entered when a stage begins, left when it ends."""

    def note(self, message: str) -> None:
        """Report a note to the user."""


class NullProgress:
    """Shows nothing. Stages and notes go to the logger, which is silent unless the application configures logging."""

    def stage(self, title: str) -> AbstractContextManager[Advance]:
        """Log the stage at INFO."""
        LOGGER.info(title)
        return nullcontext(lambda _: None)

    def note(self, message: str) -> None:
        """Log the note at WARNING."""
        LOGGER.warning(message)


def counted(advance: Advance, total: int) -> Callable[[], None]:
    """A callback for work of ``total`` equal parts, to be called after each."""
    done = 0

    def one_more() -> None:
        nonlocal done
        done += 1
        advance(done / total)

    return one_more
