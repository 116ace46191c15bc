"""What the cleanup makes of SE and CBAM networks, beside what other tools make of them.

    python benchmarks/cleanup.py [--only nodes,kernels,latency,cost,zoo] [--networks se_resnet50,cbam_resnet50]
                                 [--rounds 40] [--peers-python PATH] [--out benchmarks/results/cleanup.json]

The files are exported here, by PyTorch's two exporters, with random weights. These questions are asked of them:

- nodes: how many nodes are left in the main graph;
- cost: how long a tool takes to read, clean and write a file, and how much memory that adds, each in a process of its
  own that has cleaned a tiny file before; the tools take turns;
- kernels: into how many kernels TensorRT for RTX compiles the file (for compute capability 8.6; needs no GPU);
- latency: how long ONNX Runtime takes on one thread at batch 1, as a ratio to the network without attention; the files
  are run in random turns, and the interval is a 95 % bootstrap interval of the median ratio;
- zoo: nodes of every network of the registry, beside the best of the others; only if it is asked for.

onnxslim, onnxsim and onnxoptimizer are left out if they aren't installed. ``--peers-python`` names the interpreter of
an environment that has them.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from common import markdown, words_of
from corpus import PEERS, Corpus, Row, in_worker, say

from attn_export.exporter.records.document import plain
from attn_export.exporter.records.environment import describe
from attn_export.models.registry import names as zoo_names

RESULT = Path(__file__).parent / "results" / "cleanup.json"
REFERENCE = "onnxsim"  # what the seconds are compared with


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
            row["seconds"] = (
                statistics.median(t[tool]["seconds"] for t in done) if done else entry(turns[0][tool], "seconds")
            )
            row["ratio"] = statistics.median(paired) if paired else None
            row["added_mib"] = statistics.median(t[tool]["added_mib"] for t in done) if done else None
            rows.append(row)
    return rows


def count_kernels(corpus: Corpus, options: argparse.Namespace) -> list[Row]:
    """Kernels of the plain network, and of the attended one as exported and as we clean it, for each kind of input."""
    rows: list[Row] = []
    for network in options.networks:
        for form in ("dynamo", "static", "open"):
            source = corpus.file(network, form)
            files = {"plain": corpus.file(without_attention(network), form), "exported": source}
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


def without_attention(network: str) -> str:
    """The same network without attention."""
    return network.removeprefix("se_").removeprefix("cbam_")


def measure_latency(corpus: Corpus, options: argparse.Namespace) -> list[Row]:
    """Milliseconds in ONNX Runtime and the ratio to the plain network."""
    rows: list[Row] = []
    for network in options.networks:
        source = corpus.file(network, "dynamo")
        files = {"plain": corpus.file(without_attention(network), "dynamo"), "exported": source}
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
    rows = []
    for network in zoo_names():
        with tempfile.TemporaryDirectory(dir=corpus.folder) as folder:
            own = Corpus(Path(folder), corpus.peers_python)
            source = own.file(network, "dynamo")
            counts = {tool: entry(own.report(source, tool), "nodes") for tool in (*PEERS, "ours")}
            corpus.reports |= own.reports
            best = min((t for t in PEERS if isinstance(counts[t], int)), key=lambda t: counts[t], default=None)
            row: Row = {"network": network, "exported": node_count(source), **counts, "best_peer": best}
            rows.append(row)
    return rows


def number(value: object, digits: int) -> object:
    """A figure with so many digits; anything else as it is."""
    return f"{value:.{digits}f}" if isinstance(value, float) else value


def shown(section: str, rows: list[Row]) -> str:
    """The rows of a section as a table."""
    tools = (*PEERS, "ours")
    if not rows:
        return "Not measured: what it needs is not installed.\n"
    if section == "nodes":
        return markdown(
            ("network", "form", "as exported", *tools),
            [[r["network"], r["form"], r["exported"], *(r[t] for t in tools)] for r in rows],
        )
    if section == "cost":
        figures = (("seconds", 2), ("ratio", 2), ("added_mib", 0))
        return markdown(
            ("network", "form", "tool", "seconds", f"× {REFERENCE}", "MiB added"),
            [[r["network"], r["form"], r["tool"], *(number(r[k], d) for k, d in figures)] for r in rows],
        )
    if section == "kernels":
        names = ("plain", "exported", "ours", "ours for tensorrt")
        forms = {"dynamo": "batch 1 to 8", "static": "static", "open": "batch, height, width"}
        return markdown(
            ("network", "input", *names), [[r["network"], forms[r["form"]], *(r[n] for n in names)] for r in rows]
        )
    if section == "latency":
        columns = (("median_ms", 1), ("ratio", 3), ("low", 3), ("high", 3))
        return markdown(
            ("network", "file", "median ms", "× plain", "95 % interval from", "to"),
            [[r["network"], r["file"], *(number(r[k], d) for k, d in columns)] for r in rows],
        )
    return markdown(
        ("network", "as exported", "ours", "best peer", "which"),
        [[r["network"], r["exported"], r["ours"], r.get(r["best_peer"]), r["best_peer"]] for r in rows],
    )


MEASURES: dict[str, Callable[[Corpus, argparse.Namespace], list[Row]]] = {
    "nodes": count_nodes,
    "cost": measure_cost,
    "kernels": count_kernels,
    "latency": measure_latency,
    "zoo": count_zoo,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=words_of, default=[*MEASURES][:4], help=f"of {', '.join(MEASURES)}")
    parser.add_argument("--networks", type=words_of, default=["se_resnet50", "cbam_resnet50"])
    parser.add_argument("--rounds", type=int, default=40, help="turns of the latencies")
    parser.add_argument("--repeats", type=int, default=5, help="turns of the cost")
    parser.add_argument("--peers-python", default=sys.executable, help="the interpreter that has the other tools")
    parser.add_argument("--out", type=Path, default=RESULT, help="sections that were not measured stay in this file")
    options = parser.parse_args()
    out: Path = options.out
    with tempfile.TemporaryDirectory() as folder:
        corpus = Corpus(Path(folder), options.peers_python)
        for section in options.only:
            rows = MEASURES[section](corpus, options)
            print(f"### {section.capitalize()}\n\n{shown(section, rows)}\n", flush=True)
            document = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
            document[section] = {"rows": rows, "environment": plain(describe()) | {"tools": corpus.versions()}}
            out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
