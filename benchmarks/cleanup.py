"""What the cleanup makes of SE and CBAM networks, beside what other tools make of them.

    python benchmarks/cleanup.py [--only nodes,kernels,latency,cost] [--networks se_resnet50,cbam_resnet50] [--zoo]
                                 [--rounds 40] [--peers-python PATH] [--out benchmarks/results/cleanup.json]

The files are exported here, by PyTorch's two exporters, with random weights. Four questions are asked of them:

- nodes: how many nodes are left in the main graph;
- cost: how long a tool takes to read, clean and write a file, and how much memory that adds, each in a process of its
  own that has cleaned a tiny file before; the tools take turns;
- kernels: into how many kernels TensorRT for RTX compiles the file (for compute capability 8.6; needs no GPU);
- latency: how long ONNX Runtime takes on one thread at batch 1, as a ratio to the network without attention; the files
  are run in random turns, and the interval is a 95 % bootstrap interval of the median ratio.

onnxslim, onnxsim and onnxoptimizer are left out if they aren't installed. ``--peers-python`` names the interpreter of
an environment that has them.
"""

import argparse
import importlib
import importlib.metadata
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

# A worker runs in an environment that may have nothing but onnx and the tool; so everything else is imported late.

RESULT = Path(__file__).parent / "results" / "cleanup.json"
SECTIONS = ("nodes", "cost", "kernels", "latency")
PEERS = ("onnxslim", "onnxsim", "onnxoptimizer", "onnxscript")
OURS = {"ours": "any", "ours for onnxruntime": "onnxruntime", "ours for tensorrt": "tensorrt"}
REFERENCE = "onnxsim"  # what the seconds are compared with
LARGEST_BATCH = 64
Row = dict[str, Any]


# The corpus


def linear_cbam(network: str) -> Any:
    """The network with CBAM as its authors wrote it: Linear layers, pools over whole maps, a normalised spatial map."""
    import torch
    from torch import nn

    from attn_export.models import CBAM, create

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

            from attn_export.exporter.quiet import quiet
            from attn_export.models import architecture, create

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
    command = [python, str(Path(__file__).resolve()), "--worker", tool, str(source), str(out)]
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
        from attn_export.exporter.cleaning import clean_file
        from attn_export.exporter.target import Target

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
    """The kernels that TensorRT for RTX makes of a file, counted by kind, as its own log names them."""
    try:
        trt: Any = importlib.import_module("tensorrt_rtx")
    except ModuleNotFoundError as error:
        return {"missing": error.name}
    messages: list[str] = []
    # The class can only be made when the library is there.
    logger = type("Log", (trt.ILogger,), {"log": lambda _self, _severity, message: messages.append(message)})()
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(path):
        return {"failed": parser.get_error(0).desc()}
    config = builder.create_builder_config()
    config.max_aux_streams = 0
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    tensor = network.get_input(0)
    shape = tuple(tensor.shape)
    if -1 in shape:
        batches = (1, 4, 8) if shape[0] == -1 else (shape[0],) * 3
        sizes = (
            (batch, *(size if d == -1 else d for d in shape[1:]))
            for batch, size in zip(batches, (64, 224, 224), strict=True)
        )
        profile = builder.create_optimization_profile()
        profile.set_shape(tensor.name, *sizes)
        config.add_optimization_profile(profile)
    if builder.build_serialized_network(network, config) is None:
        return {"failed": "the engine could not be built"}
    for message in messages:
        if message.startswith("Layers:"):
            found = re.findall(r"Name: \S+, LayerType: (\S+),", message)
            kinds = Counter(kind for kind in found if kind != "shape_call")
            return {"kernels": kinds.total(), "kinds": dict(kinds), "version": trt.__version__}
    return {"failed": "the log names no layers"}


# The four questions


def files_of(networks: Iterable[str]) -> list[tuple[str, str]]:
    """Networks and forms, whose nodes are counted; the Linear form after each CBAM network."""
    found = []
    for network in networks:
        found += [(network, form) for form in ("dynamo", "legacy", "static")]
        if network.startswith("cbam_"):
            found += [(f"linear_{network}", form) for form in ("dynamo", "legacy")]
    return found


def node_count(path: Path) -> int:
    """Nodes in the main graph of a file."""
    import onnx

    return len(onnx.load(path, load_external_data=False).graph.node)


def count_nodes(corpus: Corpus, options: argparse.Namespace) -> list[Row]:
    """Nodes as exported, and after each tool."""
    rows = []
    for network, form in files_of(options.networks):
        source = corpus.file(network, form)
        row: Row = {"network": network, "form": form, "exported": node_count(source)}
        rows.append(row | {tool: entry(corpus.report(source, tool), "nodes") for tool in (*PEERS, "ours")})
    return rows


def entry(report: Row, key: str) -> Any:
    """A figure, or why there is none."""
    if key in report:
        return report[key]
    return "not installed" if "missing" in report else "failed"


def measure_cost(corpus: Corpus, options: argparse.Namespace) -> list[Row]:
    """Seconds and memory of each tool, which take turns; and the median of the seconds' ratios to the reference's."""
    tools = (*PEERS, "ours")
    rows = []
    for network, form in files_of(options.networks):
        source = corpus.file(network, form)
        source.read_bytes()  # fills the disk cache
        turns = [{tool: corpus.report(source, tool, again=True) for tool in tools} for _ in range(options.repeats)]
        for tool in tools:
            done = [turn for turn in turns if "seconds" in turn[tool]]
            row: Row = {"network": network, "form": form, "tool": tool, "runs": len(done)}
            paired = [t[tool]["seconds"] / t[REFERENCE]["seconds"] for t in done if "seconds" in t[REFERENCE]]
            row["seconds"] = median(t[tool]["seconds"] for t in done) if done else entry(turns[0][tool], "seconds")
            row["ratio"] = median(paired) if paired else None
            row["added_mib"] = median(t[tool]["added_mib"] for t in done) if done else None
            rows.append(row)
    return rows


def median(values: Iterable[float]) -> float:
    return statistics.median(values)


def count_kernels(corpus: Corpus, options: argparse.Namespace) -> list[Row]:
    """Kernels of the plain network, and of the attended one as exported and as we clean it, for each kind of input."""
    rows: list[Row] = []
    for network in options.networks:
        for form in ("dynamo", "static", "open"):
            source = corpus.file(network, form)
            files = {"plain": corpus.file(plain(network), form), "exported": source}
            for tool in ("ours", "ours for tensorrt"):
                corpus.report(source, tool)
                files[tool] = corpus.out(source, tool)
            reports = {}
            for name, path in files.items():
                say(f"compiling {path.stem}")
                known = (path, "kernels")
                if known not in corpus.reports:
                    corpus.reports[known] = in_worker(sys.executable, "kernels", path, path)
                reports[name] = corpus.reports[known]
                if "missing" in reports[name]:
                    say("tensorrt_rtx is not installed: no kernels are counted")
                    return []
            rows.append(
                {"network": network, "form": form}
                | {name: entry(report, "kernels") for name, report in reports.items()}
                | {"kinds": {name: report.get("kinds") for name, report in reports.items()}}
            )
    return rows


def plain(network: str) -> str:
    """The same network without attention."""
    return network.removeprefix("se_").removeprefix("cbam_")


def measure_latency(corpus: Corpus, options: argparse.Namespace) -> list[Row]:
    """Milliseconds in ONNX Runtime and the ratio to the plain network."""
    rows: list[Row] = []
    for network in options.networks:
        source = corpus.file(network, "dynamo")
        files = {"plain": corpus.file(plain(network), "dynamo"), "exported": source}
        for tool in (*PEERS, "ours", "ours for onnxruntime"):
            if "nodes" in corpus.report(source, tool):
                files[tool] = corpus.out(source, tool)
        say(f"timing {', '.join(files)} of {network}")
        rows += [{"network": network} | row for row in timed(files, options.rounds)]
    return rows


def timed(files: dict[str, Path], rounds: int) -> list[Row]:
    """All files in random turns; the first is what the others are compared with."""
    import numpy as np
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 3
    providers = ["CPUExecutionProvider"]
    sessions = [onnxruntime.InferenceSession(str(path), settings, providers=providers) for path in files.values()]
    rng = np.random.default_rng(0)
    shape = (1, *sessions[0].get_inputs()[0].shape[1:])
    feeds = {"input": rng.standard_normal(shape).astype(np.float32)}
    for session in sessions:
        for _ in range(3):
            session.run(None, feeds)
    seconds = np.zeros((rounds, len(sessions)))
    for turn in range(rounds):
        for i in rng.permutation(len(sessions)):
            started = time.perf_counter()
            sessions[i].run(None, feeds)
            seconds[turn, i] = time.perf_counter() - started
    ratios = seconds / seconds[:, :1]
    drawn = rng.integers(0, rounds, (2000, rounds))
    low, high = np.percentile(np.median(ratios[drawn], axis=1), (2.5, 97.5), axis=0)
    return [
        {
            "file": name,
            "median_ms": float(np.median(seconds[:, i])) * 1e3,
            "ratio": float(np.median(ratios[:, i])),
            "low": float(low[i]),
            "high": float(high[i]),
            "rounds": rounds,
        }
        for i, name in enumerate(files)
    ]


def count_zoo(corpus: Corpus, _: argparse.Namespace) -> list[Row]:
    """Nodes of every network of the registry, ours beside the best of the others."""
    from attn_export.models import names

    rows = []
    for network in names():
        with tempfile.TemporaryDirectory(dir=corpus.folder) as folder:
            own = Corpus(Path(folder), corpus.peers_python)
            source = own.file(network, "dynamo")
            counts = {tool: entry(own.report(source, tool), "nodes") for tool in (*PEERS, "ours")}
            corpus.reports |= own.reports
            best = min((t for t in PEERS if isinstance(counts[t], int)), key=lambda t: counts[t], default=None)
            row: Row = {"network": network, "exported": node_count(source), **counts, "best_peer": best}
            rows.append(row)
    return rows


# What is shown


def markdown(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table whose first column is to the left, the others to the right."""
    lines = [f"### {title}", "", f"| {' | '.join(columns)} |", "|---" + "|---:" * (len(columns) - 1) + "|"]
    lines += ["| " + " | ".join("–" if cell is None else str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def number(value: object, digits: int) -> object:
    """A figure with so many digits; anything else as it is."""
    return f"{value:.{digits}f}" if isinstance(value, float) else value


def shown(section: str, rows: list[Row]) -> str:
    """The rows of a section as a table."""
    tools = (*PEERS, "ours")
    if not rows:
        return f"### {section.capitalize()}\n\nNot measured: what it needs is not installed.\n"
    if section == "nodes":
        body = [[r["network"], r["form"], r["exported"], *(r[t] for t in tools)] for r in rows]
        return markdown("Nodes", ("network", "form", "as exported", *tools), body)
    if section == "cost":
        columns = ("network", "form", "tool", "seconds", f"× {REFERENCE}", "MiB added")
        figures = (("seconds", 2), ("ratio", 2), ("added_mib", 0))
        body = [[r["network"], r["form"], r["tool"], *(number(r[k], d) for k, d in figures)] for r in rows]
        return markdown("Cost, medians", columns, body)
    if section == "kernels":
        names = ("plain", "exported", "ours", "ours for tensorrt")
        forms = {"dynamo": "batch 1 to 8", "static": "static", "open": "batch, height, width"}
        body = [[r["network"], forms[r["form"]], *(r[n] for n in names)] for r in rows]
        return markdown("Kernels in TensorRT for RTX", ("network", "input", *names), body)
    if section == "latency":
        body = [
            [r["network"], r["file"], f"{r['median_ms']:.1f}", f"{r['ratio']:.3f}", f"{r['low']:.3f} – {r['high']:.3f}"]
            for r in rows
        ]
        return markdown("Latency in ONNX Runtime", ("network", "file", "median ms", "× plain", "95 % interval"), body)
    body = [[r["network"], r["exported"], r["ours"], r[r["best_peer"]] if r["best_peer"] else None, r["best_peer"]]
            for r in rows]  # fmt: skip
    return markdown("Zoo, nodes", ("network", "as exported", "ours", "best peer", "which"), body)


MEASURES: dict[str, Callable[[Corpus, argparse.Namespace], list[Row]]] = {
    "nodes": count_nodes,
    "cost": measure_cost,
    "kernels": count_kernels,
    "latency": measure_latency,
    "zoo": count_zoo,
}


def listed(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def sections(text: str) -> list[str]:
    """Names of sections, for argparse."""
    chosen = listed(text)
    if unknown := set(chosen) - set(SECTIONS):
        raise argparse.ArgumentTypeError(f"no such section: {', '.join(sorted(unknown))}; there are {SECTIONS}")
    return [section for section in SECTIONS if section in chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=sections, default=list(SECTIONS), help="sections, by commas; empty for none")
    parser.add_argument("--zoo", action="store_true", help="also count the nodes of every network of the registry")
    parser.add_argument("--networks", type=listed, default=["se_resnet50", "cbam_resnet50"])
    parser.add_argument("--rounds", type=int, default=40, help="turns of the latencies")
    parser.add_argument("--repeats", type=int, default=5, help="turns of the cost")
    parser.add_argument("--peers-python", default=sys.executable, help="the interpreter that has the other tools")
    parser.add_argument("--out", type=Path, default=RESULT, help="sections that were not measured stay in this file")
    parser.add_argument("--worker", nargs=3, metavar=("TOOL", "SRC", "DST"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(*options.worker)
        return
    from attn_export.exporter.environment import describe

    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        corpus = Corpus(Path(folder), options.peers_python)
        for section in [*options.only, *(["zoo"] if options.zoo else [])]:
            rows = MEASURES[section](corpus, options)
            print(shown(section, rows), flush=True)
            out: Path = options.out
            document = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
            document[section] = {"rows": rows, "environment": describe() | {"tools": corpus.versions()}}
            out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
