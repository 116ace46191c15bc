"""timm's networks with attention, by name: exported, proven, and their attention recognised.

    python benchmarks/timm_networks.py [--networks seresnet18,resnet18+coord] [--save]

Random weights, small images, one thread. ``resnet18+coord`` is timm's ResNet-18 with its block `coord`. With --save the
figures go to benchmarks/results/ after each network, and the table to docs/zoo.md.
"""

import argparse
import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.errors import AttnExportError, first_line
from attn_export.exporter.records.document import plain
from attn_export.exporter.records.environment import describe
from attn_export.exporter.system.progress import NullProgress
from attn_export.exporter.workflows.export import export_loaded
from attn_export.exporter.workflows.settings import ExportSettings

RESULTS = Path(__file__).parent / "results" / "timm_networks.json"
PAGE = Path(__file__).parents[1] / "docs" / "zoo.md"
HEADING = "## timm's networks"
SIZE = 96
# Those of fixed windows.
SIZES = {"coatnet_nano_rw_224": 224, "eca_botnext26ts_256": 256, "bat_resnext26ts": 256}


@dataclass(frozen=True)
class Family:
    """Networks of timm whose attention is of one kind."""

    attention: str
    networks: str


BLOCKS = ("se", "ese", "eca", "ecam", "ceca", "cbam", "lcbam", "coord", "scoord", "ela", "strip", "ge", "gc", "gca")
MOBILE = """
    mobilenetv3_small_100 tf_mobilenetv3_small_100 semnasnet_050 efficientnet_b0 tf_efficientnetv2_b0 mixnet_s tinynet_e
    lcnet_050 fbnetv3_b hardcorenas_a ghostnet_050 repghostnet_050 ghostnetv2_100 rexnet_100 repvit_m0_9
"""
FAMILIES = (
    Family("SE in ResNets", "seresnet18 seresnet50 seresnext26d_32x4d seresnext26ts seresnetaa50d"),
    Family("SE in legacy ResNets", "legacy_seresnet18 legacy_seresnext26_32x4d"),
    Family("SE in other residual networks", "regnety_002 nf_seresnet26 cs3sedarknet_l"),
    Family("SE in mobile networks", MOBILE),
    Family("SE beside transformers", "coatnet_nano_rw_224"),
    Family("effective SE", "ese_vovnet19b_slim_dw"),
    Family("ECA", "ecaresnet26t eca_resnext26ts eca_nfnet_l0 eca_vovnet39b nf_ecaresnet26 eca_botnext26ts_256"),
    Family("other gates", "skresnet18 gcresnext26ts resnest14d bat_resnext26ts"),
    Family("blocks of timm in its ResNet-18", " ".join(f"resnet18+{block}" for block in BLOCKS)),
)
NETWORKS = {name: family.attention for family in FAMILIES for name in family.networks.split()}


def measured(network: str) -> dict[str, Any]:
    """The figures of one network."""
    name, _, block = network.partition("+")
    size = SIZES.get(network, SIZE)
    row: dict[str, Any] = {"network": network, "size": size}
    arguments = {"block_args": {"attn_layer": block}} if block else {}
    settings = ExportSettings(runtimes=(), threads=1)
    try:
        model = load(f"timm:{name}", input_shape=(3, size, size), kwargs=arguments)
        with tempfile.TemporaryDirectory() as folder:
            result = export_loaded(model, Path(folder), "model", settings, NullProgress())
    except AttnExportError as error:
        return {**row, "error": f"{type(error).__name__}: {first_line(error)}"}
    record = plain(result.report)
    (artifact,) = record["artifacts"]
    comparisons = artifact["validation"]["comparisons"]
    return {
        **row,
        "nodes_captured": artifact["cleanup"][0]["nodes_before"],
        "nodes": artifact["nodes"],
        "blocks": Counter(block["kind"] for block in artifact["attention"]),
        "gate_ratio": max((c["ratio"] for c in comparisons if c["role"] == "gate"), default=None),
        "output_ratio": max(c["ratio"] for c in comparisons if c["role"] == "output"),
    }


def section(rows: list[dict[str, Any]], environment: dict[str, Any]) -> str:
    """The part of docs/zoo.md on timm."""
    packages = environment["packages"]
    agree = sum("error" not in row for row in rows)
    lines = [
        HEADING,
        "",
        "Made by `python benchmarks/timm_networks.py --save`, as by `attn-export timm:NAME --onnx`,",
        f"with random weights and images of {SIZE}x{SIZE}, or of 224 and 256 where a network takes no others.",
        f"{agree} of {len(rows)} are exported and agree. *Gates* and *output* as above; *attention* is what the",
        "inventory of the file says.",
        "",
        f"timm {version('timm')}, torch {packages['torch']}, ONNX Runtime {packages['onnxruntime']}.",
        "",
        "| network | nodes | as captured | attention | gates | output | verdict |",
        "|---|---:|---:|---|---:|---:|---|",
    ]
    for family in dict.fromkeys(NETWORKS.values()):
        lines.append(f"| **{family}** | | | | | | |")
        lines += [line_of(row) for row in rows if NETWORKS[row["network"]] == family]
    return "\n".join(lines) + "\n"


def line_of(row: dict[str, Any]) -> str:
    """A row of the table."""
    if "error" in row:
        return f"| `{row['network']}` | | | | | | {row['error']} |"
    gates = "–" if row["gate_ratio"] is None else f"{row['gate_ratio']:.2f}"
    blocks = ", ".join(f"{number} {kind}" for kind, number in row["blocks"].items()) or "none"
    return (
        f"| `{row['network']}` | {row['nodes']} | {row['nodes_captured']} | {blocks} | {gates} | "
        f"{row['output_ratio']:.2f} | agrees |"
    )


def save(row: dict[str, Any]) -> None:
    """Keep the figures of a network among those of the others, and write the section anew."""
    known = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.exists() else []
    rows = {found["network"]: found for found in (*known, row)}
    ordered = [rows[network] for network in NETWORKS if network in rows]
    environment = plain(describe())
    RESULTS.write_text(json.dumps({"rows": ordered, "environment": environment}, indent=1) + "\n", encoding="utf-8")
    before = PAGE.read_text(encoding="utf-8").partition(HEADING)[0].rstrip()
    PAGE.write_text(f"{before}\n\n{section(ordered, environment)}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--save", action="store_true", help="keep the figures, and write the table into docs/zoo.md")
    options = parser.parse_args()
    for network in options.networks.split(","):
        row = measured(network)
        print(json.dumps(row), flush=True)
        if options.save:
            save(row)


if __name__ == "__main__":
    main()
