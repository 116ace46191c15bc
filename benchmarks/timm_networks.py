"""timm's networks with attention, by name: exported, proven, and their attention recognised.

    python benchmarks/timm_networks.py [--networks seresnet18,resnet18+coord] [--save]

Random weights, small images, one thread. ``resnet18+coord`` is timm's ResNet-18 with its block `coord`. With --save the
figures go to benchmarks/results/ after each network, and the table to docs/zoo.md.
"""

import json
import tempfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from common import RESULTS, keep, markdown, parser_of, show_in_docs, words_of

from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.errors import AttnExportError, first_line
from attn_export.exporter.records.document import plain
from attn_export.exporter.records.environment import describe
from attn_export.exporter.system.progress import NullProgress
from attn_export.exporter.workflows.export import export_loaded
from attn_export.exporter.workflows.settings import ExportSettings

PATH = RESULTS / "timm_networks.json"
SIZE = 96
# Those of fixed windows.
SIZES = {"coatnet_nano_rw_224": 224, "eca_botnext26ts_256": 256, "bat_resnext26ts": 256}


BLOCKS = ("se", "ese", "eca", "ecam", "ceca", "cbam", "lcbam", "coord", "scoord", "ela", "strip", "ge", "gc", "gca")
MOBILE = """
    mobilenetv3_small_100 tf_mobilenetv3_small_100 semnasnet_050 efficientnet_b0 tf_efficientnetv2_b0 mixnet_s tinynet_e
    lcnet_050 fbnetv3_b hardcorenas_a ghostnet_050 repghostnet_050 ghostnetv2_100 rexnet_100 repvit_m0_9
"""
# Networks of timm whose attention is of one kind.
FAMILIES = {
    "SE in ResNets": "seresnet18 seresnet50 seresnext26d_32x4d seresnext26ts seresnetaa50d",
    "SE in legacy ResNets": "legacy_seresnet18 legacy_seresnext26_32x4d",
    "SE in other residual networks": "regnety_002 nf_seresnet26 cs3sedarknet_l",
    "SE in mobile networks": MOBILE,
    "SE beside transformers": "coatnet_nano_rw_224",
    "effective SE": "ese_vovnet19b_slim_dw",
    "ECA": "ecaresnet26t eca_resnext26ts eca_nfnet_l0 eca_vovnet39b nf_ecaresnet26 eca_botnext26ts_256",
    "other gates": "skresnet18 gcresnext26ts resnest14d bat_resnext26ts",
    "blocks of timm in its ResNet-18": " ".join(f"resnet18+{block}" for block in BLOCKS),
}
NETWORKS = {name: attention for attention, listed in FAMILIES.items() for name in listed.split()}


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


HEADS = ("network", "nodes", "as captured", "attention", "gates", "output", "verdict")


def cells(row: dict[str, Any]) -> list[object]:
    """A row of the table in docs/zoo.md."""
    if "error" in row:
        return [f"`{row['network']}`", "", "", "", "", "", row["error"]]
    blocks = ", ".join(f"{number} {kind}" for kind, number in row["blocks"].items()) or "none"
    gates = None if row["gate_ratio"] is None else f"{row['gate_ratio']:.2f}"
    nodes = row["nodes"], row["nodes_captured"]
    return [f"`{row['network']}`", *nodes, blocks, gates, f"{row['output_ratio']:.2f}", "agrees"]


def save(row: dict[str, Any]) -> None:
    """Keep the figures of a network among those of the others, and write the table anew."""
    known = json.loads(PATH.read_text(encoding="utf-8"))["rows"] if PATH.exists() else []
    rows = {found["network"]: found for found in (*known, row)}
    ordered = [rows[network] for network in NETWORKS if network in rows]
    keep("timm_networks", rows=ordered)
    shown: list[list[object]] = []
    for family in dict.fromkeys(NETWORKS.values()):
        shown += [[f"**{family}**", *[""] * 6]]
        shown += [cells(row) for row in ordered if NETWORKS[row["network"]] == family]
    packages = describe().packages
    libraries = f"timm {version('timm')}, torch {packages['torch']}, ONNX Runtime {packages['onnxruntime']}."
    agree = f"{sum('error' not in row for row in ordered)} of {len(ordered)} are exported and agree"
    show_in_docs("zoo.md", "timm", f"{agree}; {libraries}\n\n{markdown(HEADS, shown)}")


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--networks", type=words_of, default=[*NETWORKS])
    options = parser.parse_args()
    for network in options.networks:
        row = measured(network)
        print(json.dumps(row), flush=True)
        if options.save:
            save(row)


if __name__ == "__main__":
    main()
