"""Options that several commands take together: a dataclass for each group, whose fields are options.

A command names a group as one parameter; `grouped` puts its options into the signature that Typer reads.
"""

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import Field, dataclass, fields, is_dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attn_export.exporter.artifacts import LoadOptions, Normalization, names_network
from attn_export.exporter.commands import options, parse
from attn_export.exporter.commands.parse_inputs import parse_inputs, parse_ranges
from attn_export.exporter.commands.parse_pictures import (
    parse_normalization,
    parse_pixels,
    parse_postprocessing,
    parse_resize,
)
from attn_export.exporter.errors import UsageError
from attn_export.exporter.system.packages import refuse_absent
from attn_export.exporter.workflows.served import ServedOptions

if TYPE_CHECKING:
    from attn_export.exporter.engine.settings import EngineSettings
    from attn_export.exporter.images.preprocessing import PictureOptions

NAME = r"[^\W\d]\w*(\.[^\W\d]\w*)*"


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command as Typer takes it: each group is replaced by its options."""
    signature = inspect.signature(command)
    declared: dict[str, type[Any]] = {name: each.annotation for name, each in signature.parameters.items()}
    groups = {name: kind for name, kind in declared.items() if is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for name, each in signature.parameters.items():
        own = [
            inspect.Parameter(option.name, each.kind, default=option.default, annotation=option.type)
            for option in (fields(groups[name]) if name in groups else ())
        ]
        parameters += own or [each]

    @wraps(command)
    def run(**values: Any) -> None:
        made = {
            name: group(**{option.name: values.pop(option.name) for option in fields(group)})
            for name, group in groups.items()
        }
        command(**values, **made)

    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return run


def given(group: Any, but: Sequence[str] = ()) -> dict[str, bool]:
    """Of each option of a group whether it is set, by the option's name; without the fields ``but``."""
    return {_name(each): getattr(group, each.name) != each.default for each in fields(group) if each.name not in but}


def _name(option: "Field[Any]") -> str:
    declared = option.type.__metadata__[0].default  # type: ignore[union-attr]
    return declared if isinstance(declared, str) else f"--{option.name.replace('_', '-')}"


@dataclass(frozen=True)
class Shown:
    """How a command shows what it does; `cli.run` reads --debug itself."""

    as_json: options.AsJson = False
    quiet: options.Quiet = False
    debug: options.Debug = False


@dataclass(frozen=True)
class Loading:
    """How a checkpoint becomes a network."""

    arch: options.Arch = None
    inputs: options.Inputs = None
    code: options.Code = None
    factory: options.Factory = None
    kwargs: options.Kwargs = None
    weights: options.Weights = None
    key: options.CheckpointKey = None
    trust: options.Trust = False

    def parse(self, source: Path | None = None) -> LoadOptions:
        """The options for the checkpoint, or the name of a library's network.

        Raises:
            UsageError: contradictory, or of another form.
            RuntimeUnavailableError: the library isn't installed.
        """
        code, factory = self.code, self.factory
        place, colon, name = (code or "").rpartition(":")
        if colon and place.endswith(".py") and factory is None:
            code, factory = place, f"{Path(place).stem}:{name}"
        if factory is not None and not re.fullmatch(f"{NAME}:{NAME}", factory):
            raise UsageError(
                f"--factory {factory} is no MODULE:FUNCTION", hint="For example --factory models.senet:build."
            )
        if factory is not None and self.arch is not None:
            raise UsageError("--factory and --arch contradict each other", hint="Leave one of them out.")
        network = next((name for name in (source, self.arch) if name is not None and names_network(name)), None)
        if network is not None:
            refuse_absent(str(network).partition(":")[0])
        return LoadOptions(
            arch=self.arch,
            inputs=parse_inputs(self.inputs),
            ranges=parse_ranges(getattr(self, "ranges", None)),
            code=Path(code) if code else None,
            factory=factory,
            kwargs=parse.parse_arguments(self.kwargs, factory or network),
            trust=self.trust,
            weights=self.weights,
            key=self.key,
        )


@dataclass(frozen=True)
class RangedLoading(Loading):
    """Of a network that runs on generated images."""

    ranges: options.Ranges = None


@dataclass(frozen=True)
class LoadingBesideEngines(RangedLoading):
    """Of a network beside artifacts."""

    trust: options.TrustEngines = False


@dataclass(frozen=True)
class Resizing:
    """How pictures get the size of an input."""

    resize: options.Resize = None
    interpolation: options.Interpolation = None

    def parse(self, sources: Sequence[Path]) -> "PictureOptions":
        """The options for the images of all sources. Raises UsageError: another form, or there are no pictures."""
        from attn_export.exporter.images.arrays import ENDINGS
        from attn_export.exporter.images.preprocessing import INTERPOLATIONS, PictureOptions

        if not any(source.suffix.lower() not in ENDINGS for source in sources):
            parse.refuse(given(self), "for pictures, and none are given", "Arrays are taken as they are.")
        interpolation = parse.choice("--interpolation", self.interpolation or INTERPOLATIONS[0], INTERPOLATIONS)
        return PictureOptions(self._normalization(), parse_resize(self.resize), interpolation)

    def _normalization(self) -> Normalization | None:
        """Another than the network's own."""
        return None


@dataclass(frozen=True)
class Pictures(Resizing):
    """How pictures become inputs."""

    mean: options.Mean = None
    std: options.Std = None

    def _normalization(self) -> Normalization | None:
        return parse_normalization(self.mean, self.std)


@dataclass(frozen=True)
class Served:
    """What the artifacts of a network take and return."""

    input_image: options.InputImage = None
    mean: options.Mean = None
    std: options.Std = None
    output: options.Output = None
    labels: options.Labels = None

    def parse(self) -> ServedOptions:
        """The options. Raises UsageError: another form, or mean without standard deviation."""
        return ServedOptions(
            pixels=parse_pixels(self.input_image) if self.input_image is not None else None,
            normalization=parse_normalization(self.mean, self.std),
            postprocessing=parse_postprocessing(self.output) if self.output is not None else None,
            labels=self.labels,
        )


@dataclass(frozen=True)
class Engines:
    """How engines are built."""

    gpus: options.Gpus = None
    backend: options.BackendName = parse.AUTO
    profile_batch: options.ProfileBatch = None
    size: options.Size = None
    allow_mixed: options.AllowMixed = False
    keep_going: options.KeepGoing = False

    def parse(self, **more: Any) -> "EngineSettings":
        """The settings, with ``more`` of their fields.

        Raises:
            UsageError: another form, or a GPU or backend is unknown.
        """
        from attn_export.exporter.engine.backend import MODULES
        from attn_export.exporter.engine.settings import EngineSettings

        return EngineSettings(
            gpus=parse.parse_gpus(self.gpus),
            backend=parse.choice("--backend", self.backend, (parse.AUTO, *MODULES)),
            sizes=parse.parse_sizes(self.profile_batch, self.size),
            allow_mixed=self.allow_mixed,
            keep_going=self.keep_going,
            **more,
        )
