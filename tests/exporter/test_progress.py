"""What an application that embeds the library sees of its notes."""

import logging
import subprocess
import sys

import pytest

from attn_export.exporter.system.progress import NullProgress


def test_notes_and_stages_reach_the_logger(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="attn_export")
    with NullProgress().stage("Opening 100%"):
        NullProgress().note("a warning of 5%")
    found = [(record.name, record.levelname, record.getMessage()) for record in caplog.records]
    assert found == [("attn_export", "INFO", "Opening 100%"), ("attn_export", "WARNING", "a warning of 5%")]


def test_without_logging_nothing_is_printed() -> None:
    code = "from attn_export.exporter.system.progress import NullProgress as P; P().note('x')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
