"""Meets the program with hostile files and counts what goes wrong.

    python -m tests.attack.campaign [--kind graph] [--part TEXT] [--sample N] [--seed S]

Each case runs in a process of its own, a fork of one that has imported all libraries, with limits. What must not
happen: code of a file runs, a signal ends the program, exit code 70, more than 60 s of CPU or 2 GiB, no message or
several, files that stay behind.
"""

import argparse
import importlib
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.attack import checkpoints, documents, graphs
from tests.attack.case import MARK, Case
from tests.budgets.sample import sample_report
from tests.engine.graphs import plain

CPU_SECONDS, WALL_SECONDS, MOST_MIB, ADDRESS_SPACE = 60, 180, 2048, 8 * 2**30
DOCUMENTED = frozenset((0, 1, 3, 4, 5, 6))  # the command lines are right, so not 2
RESULTS = (".onnx", ".engine", ".engine.json", ".report.json")
LONGEST_ERROR = 8192


@dataclass(frozen=True)
class Outcome:
    """What a case led to.

    Attributes:
        case: that ran.
        code: the program's, negative for a signal.
        seconds: of CPU.
        mib: the most memory, beyond that of the process that forked it.
        problems: what must not happen and did.
    """

    case: Case
    code: int
    seconds: float
    mib: int
    problems: tuple[str, ...]


def preload() -> None:
    """Import what commands import, once for all forks."""
    for name in ("cleanup.pipeline", "workflows.clean", "workflows.build", "workflows.export", "workflows.validate"):
        __import__(f"attn_export.exporter.{name}")
    for name in ("attn_export.cli", "onnxruntime", "onnxscript", "tensorrt_rtx", "torch.onnx", "torch.export"):
        __import__(name)


def good_files(folder: Path) -> documents.Good:
    """A graph, its engine and bundle, and a report, as the program writes them."""
    from attn_export.cli import run
    from attn_export.exporter.records.document import plain as plain_values

    graph = plain(folder / "model.onnx")
    with redirect_stdout(io.StringIO()):
        for gpu in ("sm86", "sm87"):
            assert run(["build", str(graph), "--gpu", gpu, "--quiet"]) == 0
    with zipfile.ZipFile(folder / "model.sm87.bundle.zip") as bundle:
        members = {name: bundle.read(name) for name in bundle.namelist()}
    return documents.Good(
        graph.read_bytes(),
        (folder / "model.engine").read_bytes(),
        json.loads((folder / "model.engine.json").read_bytes()),
        plain_values(sample_report()),
        members,
    )


def all_cases(good: documents.Good) -> Iterator[Case]:
    yield from graphs.cases()
    yield from documents.cases(good)
    yield from checkpoints.cases()


def run_case(case: Case, good: documents.Good, folder: Path) -> Outcome:
    """Run a case in a folder that is made for it."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "tmp").mkdir(parents=True)
    case.make(folder)
    (folder / "good.onnx").write_bytes(good.graph)
    before = {path.name for path in folder.iterdir()}
    inherited = psutil.Process().memory_info().rss >> 20  # of tests that ran in this process before
    with tempfile.TemporaryFile() as printed:
        pid = os.fork()
        if pid == 0:
            become_program(case, folder, printed.fileno())
        code, seconds, mib = _await(pid)
        printed.seek(0)
        said = printed.read().decode(errors="replace")
    after = {path.name for path in folder.iterdir()}
    left = {name for name in after - before if code != 0 or not name.endswith(RESULTS)}
    left |= {path.name for path in (folder / "tmp").iterdir()}
    mib = max(0, mib - inherited)
    problems = tuple(_problems(case, code, seconds, mib, said, left))
    return Outcome(case, code, seconds, mib, problems)


def become_program(case: Case, folder: Path, output: int) -> None:
    code = 99
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
        os.chdir(folder)
        os.environ["TMPDIR"], tempfile.tempdir = str(folder / "tmp"), None
        os.environ["ATTN_EXPORT_CACHE"] = str(folder / "tmp")
        for stream in (1, 2):
            os.dup2(output, stream)
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", closefd=False) for stream in (1, 2))
        sys.argv = ["attn-export", *case.command]
        importlib.import_module("attn_export.__main__").main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 98
    finally:
        for printed in (sys.stdout, sys.stderr):
            with suppress(OSError):
                printed.flush()
        os._exit(code)


def _await(pid: int) -> tuple[int, float, int]:
    """Exit code, seconds of CPU, and MiB of a child, which is killed with its group if it hangs."""
    deadline = time.monotonic() + WALL_SECONDS
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return code, usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            os.wait4(pid, 0)
            return -signal.SIGKILL, WALL_SECONDS, 0
        time.sleep(0.005)


def _problems(case: Case, code: int, seconds: float, mib: int, said: str, left: Iterable[str]) -> Iterator[str]:
    if MARK in left:
        yield "code ran"
    if code < 0:
        yield "hang" if -code == signal.SIGKILL else f"signal {-code}"
    elif code not in DOCUMENTED:
        yield f"exit code {code}"
    elif case.refused and code != 3:
        yield f"exit code {code} for what has to be refused"
    if seconds > CPU_SECONDS:
        yield f"{seconds:.0f} s of CPU"
    if mib > MOST_MIB:
        yield f"{mib} MiB"
    errors = sum(line.startswith("error: ") for line in said.splitlines())
    if code > 0 and errors != 1:
        yield f"{errors} messages"
    if "Traceback" in said or (len(said) > LONGEST_ERROR and code):
        yield "a traceback" if "Traceback" in said else f"a message of {len(said)} characters"
    if "\x1b]0;" in said:
        yield "escape sequences reach the terminal"
    if left := sorted(left):
        yield f"left: {', '.join(left)[:100]}"


def table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Cases, failures, and the largest of everything by kind of file."""
    kinds: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        kinds[outcome.case.kind].append(outcome)
    yield f"{'kind':12}{'cases':>7}{'failed':>8}{'longest':>9}{'most memory':>13}  exit codes"
    for kind, found in kinds.items():
        failed, codes = sum(bool(o.problems) for o in found), sorted(Counter(o.code for o in found).items())
        longest, most = max(o.seconds for o in found), max(o.mib for o in found)
        listed = ", ".join(f"{code} {count} times" for code, count in codes)
        yield f"{kind:12}{len(found):>7}{failed:>8}{longest:>7.1f} s{most:>9} MiB  {listed}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", help="graph, record, report, bundle, checkpoint or images")
    parser.add_argument("--part", default="", help="of the cases' names")
    parser.add_argument("--sample", type=int, help="number of cases of each kind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    preload()
    outcomes = []
    with tempfile.TemporaryDirectory() as name:
        good = good_files(Path(name))
        chosen = [c for c in all_cases(good) if c.kind == (options.kind or c.kind) and options.part in c.name]
        for case in sampled(chosen, options.sample, options.seed):
            outcomes.append(run_case(case, good, Path(name) / "case"))
            if outcomes[-1].problems:
                print(f"{case.kind}: {case.name}: {'; '.join(outcomes[-1].problems)}", flush=True)
    print("\n".join(table(outcomes)))
    return int(any(outcome.problems for outcome in outcomes))


def sampled(cases: Sequence[Case], count: int | None, seed: int) -> list[Case]:
    """So many cases of each kind, in their order."""
    if count is None:
        return list(cases)
    kinds: dict[str, list[int]] = defaultdict(list)
    for index, case in enumerate(cases):
        kinds[case.kind].append(index)
    draw = random.Random(seed)
    chosen = sorted(index for found in kinds.values() for index in draw.sample(found, min(count, len(found))))
    return [cases[index] for index in chosen]


if __name__ == "__main__":
    sys.exit(main())
