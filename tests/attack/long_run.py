"""Exports a network again and again in one process and prints its memory and descriptors.

python -m tests.attack.long_run [--exports 200]
"""

import argparse
import gc
import sys
import tempfile

import psutil

from attn_export.exporter import export
from attn_export.exporter.system.memory import trim
from attn_export.exporter.workflows.settings import ExportSettings
from attn_export.models.registry import create

GROWTH, STEP = 0.05, 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exports", type=int, default=200)
    exports = parser.parse_args().exports
    network, process = create("se_resnet8"), psutil.Process()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, exports + 1):
            export(network, input_shape=(1, 3, 32, 32), out=folder, settings=ExportSettings(runtimes=()))
            if number % STEP == 0:
                gc.collect()
                trim()
                found.append((process.memory_info().rss, process.num_fds()))
                print(f"{number:4} exports: {found[-1][0] / 2**20:.1f} MiB, {found[-1][1]} descriptors", flush=True)
    (first, opened), (last, open_now) = found[0], found[-1]
    print(f"growth from export {STEP} to {exports}: {last / first - 1:.1%}, {open_now - opened} descriptors")
    return int(last > first * (1 + GROWTH) or open_now > opened)


if __name__ == "__main__":
    sys.exit(main())
