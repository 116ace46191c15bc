"""What networks and artifacts answer on labelled images."""

from msgspec import Struct
from msgspec.structs import force_setattr

from attn_export.exporter.records.gates import Picture
from attn_export.exporter.records.images import ImageSource
from attn_export.exporter.records.verdict import QualityRequirement, finite


class Accuracy(Struct, frozen=True, kw_only=True):
    """The answers of PyTorch or of one artifact.

    Attributes:
        top1, top5: share of images whose label has the largest score, or one of the five largest; of fewer than six
            classes there is no top 5.
        agreement: share of images with the same largest score as in PyTorch; 1 for PyTorch itself.
        sqnr_db: of the scores against PyTorch's, over images with finite scores; None without noise.
        not_finite: images with scores that aren't finite, which count as wrong.
        missed: what it doesn't meet of the requirement, in words.
    """

    artifact: str
    runtime: str
    top1: float
    top5: float | None
    agreement: float
    lost: int
    gained: int
    sqnr_db: float | None
    not_finite: int = 0
    missed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        force_setattr(self, "sqnr_db", finite(self.sqnr_db))


class Flip(Struct, frozen=True):
    """An image that an artifact answers otherwise than PyTorch.

    Attributes:
        answers: the name of the class with the largest score, by artifact, "PyTorch" first.
        margin: by how much PyTorch's probability of its own class is above that of the artifact's; of several
            artifacts the largest.
        picture: the image; None where it can't be shown.
    """

    image: str
    label: str
    answers: dict[str, str]
    margin: float
    picture: Picture | None = None


class Evaluation(Struct, frozen=True, kw_only=True):
    """Accuracy on the same images: PyTorch's, then the artifacts'; ``flips`` are those with the largest margins."""

    source: ImageSource
    classes: int
    matched: str
    results: tuple[Accuracy, ...]
    flips: tuple[Flip, ...] = ()
    flipped: int = 0
    requirement: QualityRequirement | None = None
    not_evaluated: dict[str, str] = {}

    @property
    def artifacts(self) -> tuple[Accuracy, ...]:
        """The results without PyTorch's own."""
        return self.results[1:]
