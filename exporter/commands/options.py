"""The options of the command line, each declared once."""

from functools import partial
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

_loading = partial(Option, rich_help_panel="Your own network")
_served = partial(Option, rich_help_panel="Pixels in, probabilities out")
_latency = partial(Option, rich_help_panel="Latencies and reports")
_engine = partial(Option, rich_help_panel="Engines")
_pictures = partial(Option, rich_help_panel="Pictures")

# Every command.
AsJson = Annotated[bool, Option("--json", help="Print the result as one JSON document.")]
Quiet = Annotated[bool, Option("--quiet", help="No progress and no notes.")]
Debug = Annotated[bool, Option("--debug", help="Show the traceback of an error.")]

# The network and its graph.
Checkpoint = Annotated[
    Path,
    Argument(metavar="MODEL", help="The trained network: model.pt; or a name: timm:seresnet50, torchvision:resnet50."),
]
Arch = Annotated[str | None, Option(help="Architecture of a state dict: cbam_resnet50, timm:seresnet50.")]
Inputs = Annotated[
    list[str] | None,
    Option(
        "--input",
        metavar="[NAME=]NxCxHxW[:TYPE]",
        help="Input shape: 1x3x224x224; each of several: mask=1x64:int64.",
        show_default="the model's",
    ),
]
Ranges = Annotated[
    list[str] | None,
    Option("--range", metavar="[NAME=]LOW..HIGH", help="Values of an input: image=0..255.", show_default="normalized"),
]
Code = Annotated[
    str | None,
    _loading(
        metavar="DIR|FILE.py[:CLASS]",
        help="Your training code: the classes of a pickled module, and the class that takes a state dict.",
    ),
]
Factory = Annotated[
    str | None, _loading(metavar="MODULE:FUNCTION", help="Your function that builds the network for a state dict.")
]
Kwargs = Annotated[
    str | None, _loading(metavar="JSON", help="Its arguments, or those of timm:NAME: '{\"depth\": 18}'.")
]
Weights = Annotated[
    Path | None, _loading(metavar="FILE", help="State dict of timm:NAME or torchvision:NAME.", show_default="random")
]
CheckpointKey = Annotated[
    str | None,
    _loading(
        "--checkpoint-key",
        metavar="NAME",
        help="The weights to take of several: ema, model, teacher.",
        show_default="averaged ones first",
    ),
]
Trust = Annotated[bool, Option("--trust", help="Run the checkpoint's code. Only for files of known origin.")]
TrustEngines = Annotated[bool, Option("--trust", help="Run the checkpoint's code; load an engine without a record.")]
Images = Annotated[
    list[Path] | None,
    Option(metavar="DIR|FILE", help="Validate on real images too, at most 16: a folder, pictures, .npy or .npz."),
]
Evaluate = Annotated[
    Path | None,
    _pictures(
        "--eval",
        metavar="DIR|FILE",
        help="Accuracy on labelled images: a folder with a folder for each class, or .npz with labels.",
    ),
]
Require = Annotated[
    list[str] | None,
    Option(
        "--require",
        metavar="NAME=VALUE",
        help="Exit code 1 below: top1=99%, top5, agreement=99% (with PyTorch), sqnr=20; without --eval for int8.",
    ),
]
ClassNames = Annotated[
    Path | None, _pictures("--labels", help="Class names: one a line, or JSON.", show_default="the model's")
]
Resize = Annotated[
    str | None,
    _pictures(
        "--resize",
        metavar="N|HxW",
        help="Shorter side before the centre crop, or the whole size.",
        show_default="8/7 of the input, below 128 pixels the input's",
    ),
]
Interpolation = Annotated[
    str | None,
    _pictures("--interpolation", metavar="NAME", help="bilinear or bicubic.", show_default="bilinear"),
]
InputImage = Annotated[
    str | None,
    _served(
        metavar="uint8[:nhwc][:bgr]",
        help="Take pixels: preprocessing becomes part of the graph. NCHW and RGB by default.",
        show_default="the network's own input",
    ),
]
Mean = Annotated[
    str | None, _served(metavar="NUMBERS", help="Mean of each channel, for pixels in 0..1.", show_default="the model's")
]
Std = Annotated[
    str | None, _served(metavar="NUMBERS", help="Standard deviation of each channel.", show_default="the model's")
]
Output = Annotated[
    str | None,
    _served(
        metavar="softmax|top=K", help="Return probabilities, or the top K with classes.", show_default="the network's"
    ),
]
Labels = Annotated[
    Path | None,
    _served(help="Class names: one a line, or JSON. They go into the file.", show_default="the model's"),
]
For = Annotated[
    str | None,
    Option("--for", metavar="RUNTIME", help="Graph form: tensorrt or onnxruntime.", show_default="good in both"),
]
Precisions = Annotated[
    list[str] | None,
    Option(
        "--precision",
        metavar="NAMES",
        help="Precisions: fp32, tf32, fp16, bf16, int8, fp8.",
        show_default="the source's",
    ),
]

Calibration = Annotated[
    list[Path] | None,
    Option(
        metavar="DIR|FILE",
        help="About a hundred typical images for int8 and fp8: a folder, pictures, .npy or .npz.",
        show_default="none",
    ),
]
Around = Annotated[
    str, Option("--around", metavar="NAME", help="Type of the layers that int8 and fp8 leave in floats: fp32 or fp16.")
]

Io = Annotated[
    str, Option("--io", metavar="NAME", help="Type of inputs and outputs of fp16 and bf16: float32 or native.")
]

# Runtimes, latencies and reports. More threads than any machine has CPUs would only take memory.
Threads = Annotated[int | None, Option(min=1, max=1024, help="CPU threads of every runtime.", show_default="all CPUs")]
Device = Annotated[str, Option(metavar="NAME", help="Device of PyTorch and ONNX Runtime: cpu or cuda.")]
Runtimes = Annotated[
    list[str] | None,
    Option(
        metavar="NAMES",
        help="Timed runtimes: eager, compile (of a checkpoint), onnxruntime, onnxruntime-cuda (of ONNX files).",
        show_default="eager,onnxruntime",
    ),
]
Batches = Annotated[
    list[str] | None,
    Option("--batch", metavar="N[,N]", help="Batch sizes to time: 1,8,32.", show_default="the files' own, or 1"),
]
Interval = Annotated[str, _latency("--ci", metavar="PERCENT", help="Half-width of the ratios' confidence intervals.")]
Seconds = Annotated[float, _latency(min=0.1, max=86400, help="Time limit of each batch size.")]
Cpus = Annotated[str | None, _latency(metavar="LIST", help="CPU affinity: 0-3 or 0,2.")]
Isolate = Annotated[bool, _latency("--isolate", help="Time each runtime of a file in a separate process.")]
Reports = Annotated[
    list[Path] | None, _latency("--report", metavar="FILES", help="Also write a report (html, md, json; png: a card).")
]
Budgets = Annotated[
    list[str] | None,
    Option(
        "--budget",
        metavar="LIMIT",
        help="Exit code 1 beyond a limit: latency=3ms, p99=5ms, ratio=0.8 or drop=0.5%; of every artifact, or of one "
        "runtime: eager:latency=9ms.",
    ),
]

# Engines.
Gpus = Annotated[
    list[str] | None,
    _engine(
        "--gpu",
        metavar="NAMES",
        help="Target GPUs: sm86,sm89, a product such as 'RTX 4090', or current. A Jetson gets a deployment bundle.",
        show_default="all of TensorRT-RTX's, or this machine's",
    ),
]
BackendName = Annotated[str, _engine("--backend", metavar="NAME", help="auto, tensorrt or tensorrt-rtx.")]
ProfileBatch = Annotated[
    list[str] | None,
    _engine(
        metavar="MIN,OPT,MAX", help="Batch sizes of the optimization profile: 1,8,32, or one.", show_default="1,1,8"
    ),
]
Size = Annotated[
    list[str] | None,
    _engine(
        "--size",
        metavar="MIN,OPT,MAX",
        help="Image sizes of the optimization profile where height and width are dynamic: 192x192,224x224,320x320, or "
        "one; of another dynamic axis by its name: axis_1=8,16,32.",
    ),
]
AllowMixed = Annotated[bool, _engine("--allow-mixed", help="Accept kernels of other types than the graph's.")]
KeepGoing = Annotated[bool, _engine("--keep-going", help="Skip GPUs that can't be built for.")]
Workspace = Annotated[int | None, _engine(min=1, metavar="MIB", help="Memory limit of a kernel.", show_default="none")]
TimingCache = Annotated[Path | None, _engine(help="TensorRT's timing cache, read and written.")]
VersionCompatible = Annotated[bool, _engine("--version-compatible", help="Run in later versions of TensorRT too.")]
HardwareCompatible = Annotated[bool, _engine("--hardware-compatible", help="Run on other GPUs from sm80 on too.")]
