"""What artifacts answer on a few images."""

from msgspec import Struct

from attn_export.exporter.records.document import SCHEMA_VERSION
from attn_export.exporter.records.images import ImageSource


class Guess(Struct, frozen=True):
    """A class and its probability; the class's number where it has no name."""

    label: str
    probability: float


class Prediction(Struct, frozen=True):
    """The likeliest classes of one image by artifact, and whether all agree on the first."""

    image: str
    answers: dict[str, tuple[Guess, ...]]
    agree: bool


class PredictionSummary(Struct, frozen=True, kw_only=True):
    """`predict`: several artifacts on the same images, which each may preprocess otherwise."""

    artifacts: tuple[str, ...]
    runtimes: dict[str, str]
    sources: dict[str, ImageSource]
    images: tuple[Prediction, ...]
    schema_version: int = SCHEMA_VERSION
