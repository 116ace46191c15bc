"""Old results or new ones, never a mixture, whenever a command is interrupted, killed or out of disk."""

import random
import sys
from pathlib import Path

import pytest

from tests.attack.interruptions import COMMANDS, FAULTS, meet, scene

pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a kill ends the work on Linux only"),
]
MOMENTS = 6


@pytest.mark.parametrize("command", COMMANDS)
def test_results_are_old_or_new(command: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    found = scene(command, tmp_path / "work")
    for fault in FAULTS:
        draw = random.Random(f"{command} {fault}")
        wrong = [problem for _ in range(MOMENTS) for problem in meet(found, fault, tmp_path / "work", draw)[1]]
        assert not wrong
