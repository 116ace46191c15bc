#!/usr/bin/env bash
# Prove and time a network, and compare its latencies with a report that was kept.
#
#     check.sh MODEL.pt BASELINE.report.json [OPTIONS OF attn-export ...]
#
# OUT     folder for the results, by default "build"
# SLOWER  how much slower than before anything may be, by default "5%"
# BUDGET  limits that hold whatever was before, such as "onnxruntime:latency=3ms,drop=0.5%"; by default none
#
# The exit code is that of the first command that fails: 1 if the file doesn't compute what PyTorch computes, or is too
# slow beyond noise; 3 if the two reports can't be compared. OUT/compare.md is there in either case of the last.
set -euo pipefail

if [[ $# -lt 2 ]]; then
    echo "usage: check.sh MODEL.pt BASELINE.report.json [OPTIONS OF attn-export ...]" >&2
    exit 2
fi
model=$1
baseline=$2
shift 2
out=${OUT:-build}
name=$(basename "$model")
report=$out/${name%.*}.report.json

if [[ ! -f $baseline ]]; then
    echo "there is no $baseline: keep the report of a first run under this name" >&2
    exit 3
fi

attn-export "$model" --onnx --out "$out" "$@"

limits=(--slower "${SLOWER:-5%}")
if [[ -n ${BUDGET:-} ]]; then
    limits+=(--budget "$BUDGET")
fi
attn-export compare "$baseline" "$report" "${limits[@]}" --report "$out/compare.md"
