"""What the tool finds out about every network of the zoo, kept so that two states of the code can be compared.

    python benchmarks/zoo_facts.py --save facts.json [--networks se_resnet18,...] [--gpu sm86]
    python benchmarks/zoo_facts.py --compare before.json after.json [--networks se_resnet18,...]

Needs no GPU. Each network, with seeded random weights and small images, goes through the command line in a process of
its own: to ONNX in float32 and in float16, and to an engine of each. Kept are numbers of nodes, attention blocks, gates
and kernels, the verdicts, and the largest ratio of error to baseline among gates and among outputs. Nothing of the
package is imported, so the same program serves both states; `facts_of` alone knows how a record is laid out.

A comparison wants numbers and verdicts to be equal. On one machine ratios repeat to the last digit; they may differ by
0.5 %, which is at most half a unit of their second digit. It exits with 1 if anything differs by more. Graphs, weights
and names included, are compared by their hashes: those that differ are counted, but nothing hangs on them.
"""

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from rich.console import Console
from rich.table import Table

PROGRAM = str(Path(sys.executable).with_name("attn-export"))
SIDE = 64
# Networks for images of 32x32 reduce a larger one too little to be what they are for.
SMALL = {"resnet8": 32, "resnet20": 32}
# The precisions' names, in records of ONNX files and of engines.
PRECISIONS = {"float32": "fp32", "float16": "fp16"}
TOLERANCE = 0.005
RATIO, GRAPH = "_ratio", "graph_sha256"
Facts = dict[str, Any]


def facts_of(record: Mapping[str, Any]) -> Facts:
    """What a record of an export says: the one place that depends on its layout."""
    if record.get("error"):
        return {"error": record["error"]["message"]}
    found: Facts = {}
    for artifact in record["artifacts"]:
        precision = PRECISIONS.get(artifact["precision"], artifact["precision"])
        validation = artifact["validation"]  # of an engine, None where it can't run
        facts: Facts = {"agrees": validation and validation["agrees"]}
        if artifact["format"] == "engine":
            cost = artifact["cost"]
            facts |= {key: cost[key] for key in ("kernels", "kernels_without_attention")}
            facts["attention_kernels"] = sum(block["kernels"] for block in cost["blocks"])
        else:
            cleanup, comparisons = artifact["cleanup"], validation["comparisons"]
            facts |= {
                "nodes_captured": cleanup[0]["nodes_before"],
                "nodes_cleaned": cleanup[-1]["nodes_after"],
                "nodes": artifact["nodes"],
                "attention": dict(Counter(block["kind"] for block in artifact["attention"])),
                "gates": len(artifact["gates"]),
                "kept_in_float32": len(artifact["kept_in_float32"]),
                "compared": len(comparisons),
            }
            for role in ("gate", "output"):
                ratios = [entry["ratio"] for entry in comparisons if entry["role"] == role]
                facts[role + RATIO] = max(ratios, default=None)
        found[f"{precision}_{artifact['format']}"] = facts
    return found


def called(*arguments: str, cache: str | None = None) -> subprocess.CompletedProcess[str]:
    """The command line, which must print something. References are computed anew in an empty cache."""
    environment = os.environ | ({"ATTN_EXPORT_CACHE": cache} if cache else {})
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, env=environment, check=False)
    if not done.stdout.strip():
        raise SystemExit(f"{' '.join(arguments)}: exit code {done.returncode}\n{done.stderr}")
    return done


def zoo() -> list[str]:
    """The names of its networks."""
    return [model["name"] for model in json.loads(called("models", "--json").stdout)["models"]]


def graph_hash(file: Path) -> str:
    """Of the graph with its weights, without what the file says about how it was made."""
    return hashlib.sha256(onnx.load(file).graph.SerializeToString(deterministic=True)).hexdigest()


def found(network: str, gpu: str) -> Facts:
    """What one export finds out."""
    side = next((small for part, small in SMALL.items() if network.endswith(part)), SIDE)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = str(Path(folder, f"{network}.pt"))
        called("create", network, "-o", checkpoint)
        what = ["--onnx", "--engine", "--gpu", gpu, "--precision", "fp32,fp16", "--input", f"1x3x{side}x{side}"]
        how = ["--threads", "2", "--no-bench", "--json", "--quiet", "--out", folder]
        made = called(checkpoint, *what, *how, cache=str(Path(folder, "cache")))
        facts = facts_of(json.loads(made.stdout)) | {"exit_code": made.returncode, "side": side}
        for precision, suffix in (("fp32", ".onnx"), ("fp16", ".fp16.onnx")):
            file = Path(folder, network + suffix)
            if file.exists() and f"{precision}_onnx" in facts:
                facts[f"{precision}_onnx"][GRAPH] = graph_hash(file)
    return facts


def rounded(value: Any) -> Any:
    """The same with all floats to four significant digits."""
    if isinstance(value, Mapping):
        return {key: rounded(entry) for key, entry in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def collected(networks: Sequence[str], gpu: str) -> Facts:
    """The facts of all networks, by name; the seconds that each took are only shown."""
    facts: Facts = {}
    for network in networks:
        started = time.perf_counter()
        facts[network] = rounded(found(network, gpu))
        seconds, code = time.perf_counter() - started, facts[network]["exit_code"]
        print(f"{network}: {seconds:.0f} s, exit code {code}", file=sys.stderr, flush=True)
    return facts


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every single fact and where it is."""
    if not isinstance(value, Mapping):
        yield path, value
        return
    for key, entry in value.items():
        yield from leaves(entry, (*path, key))


def same(key: str, before: Any, after: Any) -> bool:
    """Whether two values of a fact are as equal as they have to be."""
    if key.endswith(RATIO) and isinstance(before, int | float) and isinstance(after, int | float):
        return math.isclose(before, after, rel_tol=TOLERANCE)
    return bool(before == after)


def compared(before: Facts, after: Facts, console: Console) -> int:
    """Show what differs, and return the exit code."""
    old, new = dict(leaves(before)), dict(leaves(after))
    paths = sorted(old.keys() | new.keys())
    differ = [path for path in paths if not same(path[-1], old.get(path, "missing"), new.get(path, "missing"))]
    graphs = [path for path in paths if path[-1] == GRAPH]
    changed = [path for path in graphs if path in differ]
    differ = [path for path in differ if path not in changed]
    if differ:
        shown = Table("network", "fact", "before", "after", title="What differs", title_justify="left", box=None)
        for path in differ:
            shown.add_row(path[0], ".".join(path[1:]), *(str(side.get(path, "missing")) for side in (old, new)))
        console.print(shown)
    networks, facts = len(before.keys() | after.keys()), len(paths) - len(graphs)
    console.print(f"{networks} networks, {facts} facts: {len(differ)} differ")
    console.print(f"{len(graphs)} graphs: {len(graphs) - len(changed)} identical", style="dim")
    for path in changed:
        console.print(f"another graph: {path[0]} {path[1]}", style="dim")
    return 1 if differ or not paths else 0


def read(path: Path, networks: Sequence[str]) -> Facts:
    """The facts of a file, of some networks or of all."""
    facts: Facts = json.loads(path.read_text(encoding="utf-8"))
    return {name: entry for name, entry in facts.items() if not networks or name in networks}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    job = parser.add_mutually_exclusive_group(required=True)
    job.add_argument("--save", type=Path, metavar="FILE", help="where the facts are written")
    job.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"), help="two such files")
    parser.add_argument("--networks", default="", help="some of the zoo, by name; all of it by default")
    parser.add_argument("--gpu", default="sm86", help="what engines are built for")
    options = parser.parse_args()
    networks = [name for name in options.networks.split(",") if name]
    if options.compare:
        before, after = (read(path, networks) for path in options.compare)
        return compared(before, after, Console(highlight=False))
    facts = collected(networks or zoo(), options.gpu)
    options.save.write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
