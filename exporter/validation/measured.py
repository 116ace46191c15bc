"""An error, what it is measured by, and what follows from the two."""

import math


class Measured:
    """What all judgements of one tensor have in common.

    Attributes:
        error: of an artifact, relative; infinite where something isn't a number.
        yardstick: the error that is taken for unavoidable.
        limit: how many times that the error may be.
    """

    error: float
    yardstick: float
    limit: float

    @property
    def ratio(self) -> float:
        """How many times the yardstick the error is."""
        return self.error / self.yardstick

    @property
    def agrees(self) -> bool:
        """Whether that is few enough."""
        return math.isfinite(self.yardstick) and self.ratio <= self.limit
