"""What all steps of an export share."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from attn_export.exporter.artifacts import LoadedModel
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.system.progress import Progress
from attn_export.exporter.workflows.settings import ExportSettings

if TYPE_CHECKING:
    from attn_export.exporter.images.read import ImageSet
    from attn_export.exporter.validation.reference import Reference


@dataclass(frozen=True)
class ExportJob:
    """An export at work; ``folder`` holds the results while they aren't proven."""

    model: LoadedModel
    folder: Path
    stem: str
    settings: ExportSettings
    runtimes: Settings
    reference: "Reference"
    calibration: "ImageSet | None"
    progress: Progress
