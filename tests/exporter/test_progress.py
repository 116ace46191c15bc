"""What an application that embeds the library sees of its notes."""

import errno
import io
import logging
import os
import re
import subprocess
import sys
import time

import pytest

from attn_export.exporter.report.live import Lines
from attn_export.exporter.report.sweep.live import SweepLines
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


def test_a_log_announces_a_long_stage_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attn_export.exporter.report.live.WORTH_SAYING_SECONDS", 0.01)
    stream = io.StringIO()
    with Lines(stream).stage("Computing [x]"):
        deadline = time.monotonic() + 60
        while not stream.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert stream.getvalue() == "Computing [x] ...\n"
    first, last = stream.getvalue().splitlines()
    assert first == "Computing [x] ..."
    assert re.fullmatch(r"Computing \[x\]: \d+\.\d s", last)


class Full(io.StringIO):
    def write(self, _: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_log_on_a_full_disk_costs_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attn_export.exporter.report.live.WORTH_SAYING_SECONDS", 0.0)
    with Lines(Full()).stage("Computing"):
        Lines(Full()).note("a note")
    with SweepLines(Full()) as watch:
        watch.begin(3, 1)


def test_a_log_has_no_line_for_a_short_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attn_export.exporter.report.live.WORTH_SAYING_SECONDS", 3600.0)
    stream = io.StringIO()
    with Lines(stream).stage("Reading"):
        pass
    assert stream.getvalue() == ""


def test_a_stage_that_fails_is_not_announced_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attn_export.exporter.report.live.WORTH_SAYING_SECONDS", 0.2)
    stream = io.StringIO()
    with pytest.raises(ZeroDivisionError), Lines(stream).stage("Failing"):
        raise ZeroDivisionError
    time.sleep(0.4)
    assert stream.getvalue() == ""
