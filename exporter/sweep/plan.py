"""The plan of a sweep: a TOML file, read and checked. Its paths are relative to it."""

import difflib
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, structs

from attn_export.exporter.artifacts import CHECKPOINTS, ONNX_ENDING
from attn_export.exporter.errors import InputError, UsageError
from attn_export.exporter.system.files import read_whole

MOST_BYTES, MOST_CELLS = 2**24, 100_000
LISTS = ("models", "precisions", "targets", "batches", "runtimes")
IMAGES = (".npy", ".npz")
OF_ALL = ("input", "calibration", "mean", "std")


class Model(Struct, frozen=True):
    """A network of the plan.

    Attributes:
        path: a checkpoint, an ONNX file, a pattern of files such as ``nets/*.pt``, or a name of the zoo.
        name: in the results; default: the file's without its ending, or the zoo's.
        input, calibration, mean, std: see `Plan`; default: the plan's.
        arch, code, factory, kwargs, weights, checkpoint_key, trust: as the options of the same names.
    """

    path: str
    name: str = ""
    input: str = ""
    calibration: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    arch: str = ""
    code: str = ""
    factory: str = ""
    kwargs: dict[str, Any] = {}
    weights: str = ""
    checkpoint_key: str = ""
    trust: bool = False


class Plan(Struct, frozen=True):
    """What to compute: every combination of the lists.

    Attributes:
        models: paths, patterns or names, or tables with `Model`'s keys.
        targets: "cpu", and GPUs by architecture or product.
        input: input shape of all models that don't say another.
        calibration: images that int8 chooses its ranges from: an array, or a folder of pictures.
        mean, std: normalization of pictures, for pixels in 0..1; empty for that of the checkpoint.
        ci: half-width of the confidence interval at which a timing ends, in percent.
    """

    models: tuple[str | Model, ...]
    precisions: tuple[str, ...] = ("fp32",)
    targets: tuple[str, ...] = ("cpu",)
    batches: tuple[int, ...] = (1,)
    runtimes: tuple[str, ...] = ("onnxruntime",)
    input: str = ""
    calibration: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    seconds: float = 8.0
    ci: float = 2.0

    @property
    def entries(self) -> tuple[Model, ...]:
        """The models, each with what the plan says for all."""
        entries = (entry if isinstance(entry, Model) else Model(entry) for entry in self.models)
        return tuple(
            structs.replace(entry, **{key: getattr(entry, key) or getattr(self, key) for key in OF_ALL})
            for entry in entries
        )


def read_plan(path: Path) -> Plan:
    """Read a plan. Raises InputError: it is missing, or not TOML; UsageError: a key or a value is wrong."""
    try:
        document = msgspec.toml.decode(read_whole(path, MOST_BYTES))
    except OSError as error:
        raise InputError(
            f"the plan {path} can't be read: {error.strerror}",
            hint=f"attn-export sweep --init {path} writes one for the files that are beside it.",
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            f"{path} is not TOML: {error}", hint='Expected are lines such as precisions = ["fp32"].'
        ) from error
    _refuse_unknown(path, document, Plan.__struct_fields__, "")
    models = document.get("models")
    for model in models if isinstance(models, list) else ():
        if isinstance(model, dict):
            _refuse_unknown(path, model, Model.__struct_fields__, "models: ")
    try:
        plan = msgspec.convert(document, Plan)
    except msgspec.ValidationError as error:
        raise UsageError(f"{path}: {error}", hint="docs/sweep.md lists the keys of a plan.") from error
    _check(path, plan)
    return plan


def _refuse_unknown(path: Path, found: Iterable[str], known: Sequence[str], place: str) -> None:
    for key in found:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]}? " if near else ""
            raise UsageError(f"{path}: {place}unknown key {key!r}", hint=f"{hint}Known are {', '.join(known)}.")


def _check(path: Path, plan: Plan) -> None:
    count = math.prod(len(getattr(plan, key)) for key in LISTS)
    if count > MOST_CELLS:
        raise UsageError(f"{path} has {count:,} cells, and {MOST_CELLS:,} are the limit", hint="Split the plan.")
    for key in LISTS:
        values = getattr(plan, key)
        if not values:
            raise UsageError(f"{path}: {key} is empty", hint="Name at least one.")
        if double := [value for i, value in enumerate(values) if value in values[:i]]:
            raise UsageError(f"{path}: {key} has {double[0]!r} twice", hint="That makes each of its cells twice.")
    for batch in plan.batches:
        if batch < 1:
            raise UsageError(f"{path}: batches has {batch}", hint="Expected are numbers from 1.")
    if not (0 < plan.seconds < math.inf and 0 < plan.ci < math.inf):
        raise UsageError(
            f"{path}: seconds and ci have to be positive numbers", hint="For example seconds = 8 and ci = 2."
        )


def plan_for(folder: Path) -> str:
    """A plan for the checkpoints in a folder, or else its ONNX files. Raises InputError: there is neither."""
    files = sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    models = [path for path in files if path.suffix.lower() in CHECKPOINTS] or [
        path for path in files if path.suffix.lower() == ONNX_ENDING
    ]
    if not models:
        raise InputError(
            f"{folder} has no checkpoint and no ONNX file",
            hint="A plan may also name networks of the zoo: models = ['se_resnet18'].",
        )
    names = ",\n".join(f"  {_quoted(path.name)}" for path in models)
    images = next((path.name for path in files if path.suffix.lower() in IMAGES), None)
    calibration = f"calibration = {_quoted(images)}" if images else '# calibration = "images.npy"'
    return f"""\
# Every combination of these lists is a cell: attn-export sweep --dry-run shows them.
models = [
{names},
]
precisions = ["fp32", "fp16"] # int8 needs calibration
targets = ["cpu"] # and GPUs: "sm86", "RTX 4090", "Jetson Orin"
batches = [1, 8]
runtimes = ["eager", "onnxruntime"] # on GPUs: "tensorrt-rtx", "tensorrt", "onnxruntime-cuda"
{calibration}
# input = "1x3x224x224"
seconds = 8 # at most, for each timing
ci = 2 # percent: a timing ends when the median is known to this
"""


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a basic string of TOML
