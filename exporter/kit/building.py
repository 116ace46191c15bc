"""One job: a build kit to an engine, on the device. Needs neither torch nor ONNX Runtime nor onnxscript."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from attn_export.exporter.building import EngineFile, EngineSettings, Plan, choose_backend, write_engine
from attn_export.exporter.engine.backend import AUTO
from attn_export.exporter.engine.profile import Sizes
from attn_export.exporter.engine.targets import CURRENT, parse_targets
from attn_export.exporter.errors import RuntimeUnavailableError, UsageError
from attn_export.exporter.gpu import Gpu, gpus
from attn_export.exporter.kit.read import Kit, read_kit
from attn_export.exporter.kit.validating import judge_engine
from attn_export.exporter.progress import Progress, Silent


def build_kit(
    kit: Kit | Path | str,
    out: Path | str,
    settings: EngineSettings | None = None,
    progress: Progress | None = None,
) -> EngineFile:
    """Build an engine from a kit, on the device: ``build_kit("model.sm87.kit.zip", "model.engine")``.

    Needs neither torch nor ONNX Runtime nor onnxscript.

    Args:
        kit: that `kit.read_kit` gave, or its path. Shapes, options and precision are the kit's.
        out: the engine; ``<out>.json`` is written beside it.
        settings: backend and GPUs, by default the classic TensorRT and this machine's own; the timing cache; a limit
            for the workspace instead of the kit's; what becomes of mixed kernels.
        progress: hears what is being done.

    Raises:
        UnreadableKitError: the kit is missing, incomplete or damaged.
        UsageError: what is asked for isn't what the kit is for.
        RuntimeUnavailableError: there is no GPU, or no TensorRT for it.
        EngineError, MixedPrecisionError, DisagreementError, OutputError: as `build_file` says.
    """
    out, progress, settings = Path(out), progress or Silent(), settings or EngineSettings()
    if not isinstance(kit, Kit):
        with progress.stage("Reading the kit"):
            kit = read_kit(kit)
    settings = settings_for_kit(kit, settings, gpus())
    backend, why, architectures = choose_backend(settings, gpus())
    if architectures != (kit.architecture,):
        progress.note(f"the kit is for {kit.architecture}, and the engine is for {', '.join(architectures)}, as asked")
    with kit.unpacked(out.parent) as facts:
        plan = Plan(backend, why, architectures, facts, kit.profile)
        origin = {"path": kit.path.name, "sha256": kit.sha256}

        def judged(engine: EngineFile) -> dict[str, Any]:
            return judge_engine(engine.path, kit.sample, kit.profile, progress)

        return write_engine(out, plan, settings, kit.precision, progress, kit=origin, judge=judged)


def settings_for_kit(kit: Kit, asked: EngineSettings, here: tuple[Gpu, ...]) -> EngineSettings:
    """The settings with what the kit says, and what was asked where that is the device's own affair.

    Args:
        kit: that is built.
        asked: by the user.
        here: this machine's GPUs.

    Raises:
        UsageError: what is asked for isn't what the kit is for.
        RuntimeUnavailableError: there is no GPU.
    """
    if asked.sizes != Sizes():
        raise UsageError(
            f"{kit.path} says for which shapes its engine is",
            hint="Leave --batch and --size out, or write another kit.",
        )
    for flag in ("tf32", "version_compatible", "hardware_compatible"):
        if getattr(asked.options, flag) and not getattr(kit.options, flag):
            option = f"--{flag.replace('_', '-')}"
            raise UsageError(
                f"{kit.path} was written without {option}", hint=f"Leave it out, or write the kit with {option}."
            )
    wanted = parse_targets(asked.gpus, here)
    own = here[0].architecture if here else None
    if own is None and not wanted.architectures:
        raise RuntimeUnavailableError(
            f"the engine of {kit.path} is built on the device ({kit.architecture}), and there is no GPU here",
            runtime=asked.backend,
            hint="Copy the kit to the device and run this command there.",
        )
    if not wanted.wants_engine or (not asked.gpus and own != kit.architecture):
        raise UsageError(
            f"{kit.path} is for {kit.architecture}, and this machine's {here[0].name} is {own}",
            hint="Build it on the device; --gpu current builds it for this one nevertheless.",
        )
    options = replace(
        kit.options,
        timing_cache=asked.options.timing_cache,
        workspace_mib=asked.options.workspace_mib or kit.options.workspace_mib,
    )
    # What is named is built by who builds by name; this machine's own is left to the one that tunes on it.
    backend = "tensorrt" if asked.backend == AUTO and not wanted.architectures else asked.backend
    return replace(asked, gpus=asked.gpus or (CURRENT,), backend=backend, options=options)
