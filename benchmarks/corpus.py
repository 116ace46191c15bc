"""The files that benchmarks/cleanup.py looks at, and the tools that it asks, each in a process of its own.

A worker runs in an environment that may have nothing but onnx and the tool; so everything else is imported late.
"""

import importlib
import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PEERS = ("onnxslim", "onnxsim", "onnxoptimizer", "onnxscript")
OURS = {"ours": "any", "ours for onnxruntime": "onnxruntime", "ours for tensorrt": "tensorrt"}
LARGEST_BATCH = 64
Row = dict[str, Any]


def linear_cbam(network: str) -> Any:
    """The network with CBAM as its authors wrote it: Linear layers, pools over whole maps, a normalised spatial map."""
    import torch
    from torch import nn

    from attn_export.models.attention.cbam import CBAM
    from attn_export.models.registry import create

    class ChannelGate(nn.Module):
        """Pools of the map's own size, Linear layers, an expanded gate."""

        def __init__(self, channels: int, reduction: int = 16) -> None:
            super().__init__()
            hidden = channels // reduction
            self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            size = (int(x.size(2)), int(x.size(3)))
            mean = self.mlp(nn.functional.avg_pool2d(x, size, stride=size))
            peak = self.mlp(nn.functional.max_pool2d(x, size, stride=size))
            return x * torch.sigmoid(mean + peak).unsqueeze(2).unsqueeze(3).expand_as(x)

    class SpatialGate(nn.Module):
        """Maximum and mean over the channels, one convolution, BatchNorm."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
            self.bn = nn.BatchNorm2d(1)
            for tensor, value in (
                (self.bn.running_mean, 0.1),
                (self.bn.running_var, 1.3),
                (self.bn.weight.data, 0.8),
                (self.bn.bias.data, 0.05),
            ):
                if tensor is not None:
                    tensor.fill_(value)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            pooled = torch.cat((torch.max(x, 1)[0].unsqueeze(1), torch.mean(x, 1).unsqueeze(1)), dim=1)
            return x * torch.sigmoid(self.bn(self.conv(pooled)))

    class LinearCBAM(nn.Sequential):
        """Channel gate, then spatial gate."""

        def __init__(self, channels: int) -> None:
            super().__init__(ChannelGate(channels), SpatialGate())

    def swap(module: nn.Module) -> None:
        for name, child in module.named_children():
            if isinstance(child, CBAM):
                channels = next(m.in_channels for m in child.modules() if isinstance(m, nn.Conv2d))
                setattr(module, name, LinearCBAM(channels))
            else:
                swap(child)

    torch.manual_seed(0)
    made = create(network)
    swap(made)
    return made.eval()


def exported(module: Any, form: str, path: Path, shape: Sequence[int] = (3, 224, 224)) -> Path:
    """A network as PyTorch exports it: ``dynamo``, ``legacy``, ``static`` or ``open`` (height and width as well)."""
    import torch

    example = torch.randn(1 if form == "static" else 2, *shape, generator=torch.Generator().manual_seed(0))
    names: dict[str, Any] = {"input_names": ["input"], "output_names": ["output"]}
    if form == "legacy":
        axes = {"input": {0: "batch"}, "output": {0: "batch"}}
        torch.onnx.export(module, (example,), str(path), dynamo=False, opset_version=17, dynamic_axes=axes, **names)
        return path
    dims = {} if form == "static" else {0: torch.export.Dim("batch", min=1, max=LARGEST_BATCH)}
    if form == "open":
        dims |= {2: torch.export.Dim("height", min=64), 3: torch.export.Dim("width", min=64)}
    torch.onnx.export(
        module,
        (example,),
        str(path),
        dynamo=True,
        opset_version=20,
        external_data=False,
        verbose=False,
        dynamic_shapes=(dims,) if dims else None,
        **names,
    )
    return path


class Corpus:
    """Exported files in a folder, and what the tools made of them; everything is made when it is first asked for."""

    def __init__(self, folder: Path, peers_python: str) -> None:
        self.folder = folder
        self.peers_python = peers_python
        self.reports: dict[tuple[Path, str], Row] = {}

    def file(self, network: str, form: str) -> Path:
        """The file of a network; ``linear_`` before its name asks for the Linear form of CBAM."""
        path = self.folder / f"{network}.{form}.onnx"
        if not path.exists():
            import torch

            from attn_export.exporter.system.quiet import quiet
            from attn_export.models.registry import architecture, create

            say(f"exporting {path.stem}")
            torch.manual_seed(0)
            name = network.removeprefix("linear_")
            module = linear_cbam(name) if network != name else create(name).eval()
            with quiet():
                exported(module, form, path, architecture(name).input_shape)
        return path

    def out(self, source: Path, tool: str) -> Path:
        """Where a tool's file is."""
        return self.folder / f"{source.stem}.{tool.replace(' ', '_')}.onnx"

    def report(self, source: Path, tool: str, *, again: bool = False) -> Row:
        """What a tool's process says of a file; a second time it is only run if ``again``."""
        if again or (source, tool) not in self.reports:
            say(f"{tool} on {source.stem}")
            # onnxscript comes with us; the others may live elsewhere.
            python = self.peers_python if tool in PEERS and tool != "onnxscript" else sys.executable
            self.reports[source, tool] = in_worker(python, tool, source, self.out(source, tool))
        return self.reports[source, tool]

    def versions(self) -> dict[str, str]:
        """The tools' versions, as their processes told them."""
        return {tool: report["version"] for (_, tool), report in self.reports.items() if "version" in report}


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# Workers: one tool, one file, one process


def in_worker(python: str, tool: str, source: Path, out: Path) -> Row:
    """The last line that a worker prints, or why there is none."""
    command = [python, str(Path(__file__).resolve()), tool, str(source), str(out)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        say(f"  {tool} failed on {source.stem}: {reason}")
        return {"failed": reason}
    report: Row = json.loads(lines[-1])
    return report


def cleaner(tool: str) -> Callable[[str, str], None]:
    """Read, clean, write: what a user of the tool would call."""
    if tool in OURS:
        from attn_export.exporter.artifacts import Target
        from attn_export.exporter.workflows.clean import clean_file

        return lambda source, out: void(clean_file(source, out, target=Target(OURS[tool])))
    module: Any = importlib.import_module(tool)
    if tool == "onnxslim":
        return lambda source, out: void(module.slim(source, out))
    if tool == "onnxscript":
        ir: Any = importlib.import_module("onnx_ir")
        optimizer: Any = importlib.import_module("onnxscript.optimizer")

        def optimize(source: str, out: str) -> None:
            model = ir.load(source)
            optimizer.optimize(model)
            ir.save(model, out)

        return optimize
    import onnx

    if tool == "onnxsim":

        def simplify(source: str, out: str) -> None:
            model, agrees = module.simplify(onnx.load(source))
            if not agrees:
                raise SystemExit("onnxsim's own check failed")
            onnx.save(model, out)

        return simplify

    passes = module.get_fuse_and_elimination_passes()
    return lambda source, out: onnx.save(module.optimize(onnx.load(source), passes), out)


def void(_: object) -> None:
    """Drop a result."""


def tiny(path: str) -> None:
    """A gated map of four channels, to wake a tool with."""
    import onnx
    from onnx import TensorProto, helper

    def weight(name: str) -> onnx.TensorProto:
        return helper.make_tensor(name, TensorProto.FLOAT, (4, 4, 1, 1), [0.1 * i for i in range(16)])

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("batch", 4, 8, 8)) for name in ("input", "output")]
    nodes = [
        helper.make_node("GlobalAveragePool", ["input"], ["mean"]),
        helper.make_node("Conv", ["mean", "w1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Conv", ["active", "w2"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["gate"]),
        helper.make_node("Mul", ["input", "gate"], ["output"]),
    ]
    graph = helper.make_graph(nodes, "tiny", ends[:1], ends[1:], [weight("w1"), weight("w2")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def memory() -> tuple[float, float]:
    """MiB in use now, and at most so far.

    Linux hands the peak of the process that started this one down into ru_maxrss, so it is only used elsewhere.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = dict(re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", status.read_text(encoding="utf-8")))
        return int(found["VmRSS"]) / 1024, int(found["VmHWM"]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)
    return peak, peak


def worker(tool: str, source: str, out: str) -> None:
    """Print what a tool, or the compiler, makes of a file."""
    if tool == "kernels":
        print(json.dumps(compiled(source)))
        return
    try:
        clean = cleaner(tool)
    except ModuleNotFoundError as error:
        print(json.dumps({"missing": error.name}))
        return
    with tempfile.TemporaryDirectory() as folder:
        small = str(Path(folder, "tiny.onnx"))
        tiny(small)
        clean(small, str(Path(folder, "clean.onnx")))
    before, _ = memory()
    started = time.perf_counter()
    clean(source, out)
    seconds = time.perf_counter() - started
    _, peak = memory()
    import onnx

    nodes = len(onnx.load(out, load_external_data=False).graph.node)
    package = "attn-export" if tool in OURS else tool
    version = importlib.metadata.version(package)
    print(json.dumps({"seconds": seconds, "added_mib": peak - before, "nodes": nodes, "version": version}))


def compiled(path: str) -> Row:
    """The kernels that TensorRT-RTX makes of a file, as the product itself reports them of an engine."""
    from attn_export.exporter.engine.graph import read_graph
    from attn_export.exporter.engine.profile import Sizes
    from attn_export.exporter.engine.settings import EngineSettings
    from attn_export.exporter.errors import EngineError, RuntimeUnavailableError
    from attn_export.exporter.workflows.build import build_all

    (dims,) = read_graph(Path(path)).inputs.values()
    batch = None if isinstance(dims[0], int) else (1, 4, 8)
    images = ((64, 64), (224, 224), (224, 224)) if any(not isinstance(d, int) for d in dims[2:]) else None
    settings = EngineSettings(gpus=("sm86",), sizes=Sizes(batch, images), count_ablated=False)
    try:
        record = build_all(path, Path(path).with_suffix(".engine"), settings=settings).engines[0].record
    except RuntimeUnavailableError as error:
        return {"missing": error.message}
    except EngineError as error:
        return {"failed": error.message}
    kinds = Counter(kernel.kind for kernel in record.kernels.kernels)
    return {"kernels": record.cost.kernels, "kinds": dict(kinds), "version": record.backend.version}


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit("benchmarks/cleanup.py starts this script; run that one instead.")
    worker(*sys.argv[1:])
