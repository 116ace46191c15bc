"""Interrupts, kills and starves commands at random moments.

    python -m tests.attack.interruptions [--command build] [--moments N] [--seed S]

Every command has older results in place. Afterwards all of them are there, or all new ones; one message, a documented
exit code, and nothing left over. After a kill, that holds once the next command has cleared the folder. A full disk is
a limit of the size of files, drawn between 0 and the largest.
"""

import argparse
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attn_export.exporter.records.document import encode
from attn_export.exporter.system.scratch import clear_abandoned
from tests.attack.campaign import become_program, preload
from tests.attack.case import Case
from tests.budgets.sample import sample_report
from tests.engine.graphs import plain

MOMENTS = 50
FULL = "full disk"
SENT = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
FAULTS = (*(number.name for number in SENT), FULL)
CODES = {FULL: (0, 6), "SIGKILL": (0, 130, -signal.SIGKILL)}
ENDS = 60  # seconds that an interrupted command may take
EXPORT = ("net.pt", "--arch", "se_resnet8", "--no-bench")
OLDER, NEWER = ("--opset", "19"), ("--opset", "20")
COMMANDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "export": ((*EXPORT, "--onnx", *OLDER), (*EXPORT, "--onnx", *NEWER)),
    "engine": ((*EXPORT, "--engine", "--gpu", "sm86", *OLDER), (*EXPORT, "--engine", "--gpu", "sm86", *NEWER)),
    "build": (("build", "model.onnx", "--gpu", "sm89"), ("build", "model.onnx", "--gpu", "sm86")),
    "clean": ((), ("clean", "model.onnx", "-o", "out.onnx")),
    "package": (
        ("build", "model.onnx", "--gpu", "sm86"),
        ("package", "model.onnx", "model.engine", "--device", "device"),
    ),
    "quantize": ((), ("quantize", "model.onnx", "--calibration", "c.npy", "-o", "out.onnx", "--min-sqnr", "40")),
    "create": (("create", "resnet8", "-o", "out.pt"), ("create", "se_resnet8", "-o", "out.pt", "--force")),
    "report": ((), ("report", "old.json", "--report", "page.html,page.md")),
}
WITHOUT_THREADS = ("package", "create", "report")
Content = dict[str, bytes]


@dataclass(frozen=True)
class Scene:
    """A command with what is there before and what it makes.

    Attributes:
        words: of the command.
        old: all files before.
        new: all files after an undisturbed run.
        seconds: that it took.
    """

    words: tuple[str, ...]
    old: Content
    new: Content
    seconds: float

    def state(self, found: Content) -> str:
        """What the results are: old, new, or neither."""
        results = {path for path in self.new if self.old.get(path) != self.new[path]}
        if found == self.old:
            return "old"
        changed = {path for path in found if self.old.get(path) != found[path]}
        return "new" if found.keys() == self.new.keys() and changed == results else "mixed"


def content(folder: Path) -> Content:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def restore(folder: Path, files: Content) -> None:
    shutil.rmtree(folder)
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def start(words: tuple[str, ...], folder: Path, output: int, most: int | None = None) -> int:
    """Start the program in a fork of this process, with a limit of the size of its files; returns the process id."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SENT[:2])  # until the program's first line takes over
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # shells let background jobs ignore it
        if most is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
        threads = () if words[0] in WITHOUT_THREADS else ("--threads", "1")
        become_program(Case("", "", (*words, "--quiet", *threads), lambda _: None), folder, output)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SENT[:2])
    return pid


def run(words: tuple[str, ...], folder: Path) -> tuple[int, float]:
    """Exit code and seconds of an undisturbed command."""
    begun = time.monotonic()
    with tempfile.TemporaryFile() as printed:
        _, status = os.waitpid(start(words, folder, printed.fileno()), 0)
        printed.seek(0)
        sys.stdout.write(printed.read().decode(errors="replace"))
    return os.waitstatus_to_exitcode(status), time.monotonic() - begun


def scene(name: str, folder: Path) -> Scene:
    """Older results, newer ones, and the time that they took."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "tmp").mkdir(parents=True)
    older, newer = COMMANDS[name]
    if newer[0] == EXPORT[0]:
        import torch

        from attn_export.models.registry import create

        torch.save(create("se_resnet8", num_classes=3).state_dict(), folder / EXPORT[0])
    else:
        plain(folder / "model.onnx")
        np.save(folder / "c.npy", np.random.default_rng(0).standard_normal((8, 8, 8, 8), np.float32))
        (folder / "old.json").write_text(encode(sample_report()))
        for result in ("out.onnx", "page.html", "page.md"):
            (folder / result).write_bytes(b"an older result")
    assert not older or run(older, folder)[0] == 0
    old = content(folder)
    code, seconds = run(newer, folder)
    new = content(folder)
    assert code == 0
    assert new != old
    return Scene(newer, old, new, seconds)


def meet(scene: Scene, fault: str, folder: Path, draw: random.Random) -> tuple[str, list[str]]:
    """Run a command once with a fault; what its results are then, and what must not happen and did."""
    restore(folder, scene.old)
    (folder / "tmp").mkdir(exist_ok=True)
    source, target = os.pipe()  # a file would have the limit too
    most = draw.randrange(max(map(len, scene.new.values())) + 1) if fault == FULL else None
    pid = start(scene.words, folder, target, most)
    os.close(target)
    if fault != FULL:
        time.sleep(draw.uniform(0, 1.1) * scene.seconds)
        number = signal.Signals[fault]
        # A terminal's Ctrl-C and the kill that is to leave nothing go to both processes.
        try:
            (os.kill if number == signal.SIGTERM else os.killpg)(pid, number)
        except ProcessLookupError:  # it hasn't left our group yet, or is over
            os.kill(pid, number)
    begun = time.monotonic()
    _, status = os.waitpid(pid, 0)
    seconds = time.monotonic() - begun
    with os.fdopen(source, errors="replace") as printed:
        said = printed.read()
    code, state = os.waitstatus_to_exitcode(status), "mixed"
    for _ in range(200 if fault == "SIGKILL" else 1):  # the child may still be dying
        if fault == "SIGKILL":
            clear_abandoned(folder)  # as the next command does
        if (state := scene.state(results(folder))) != "mixed":
            break
        time.sleep(0.05)
    return state, list(problems(fault, code, state, said, seconds, folder))


def results(folder: Path) -> Content:
    """All files but temporary ones, and the state of a search, which the next `quantize` goes on from."""
    found = content(folder).items()
    return {name: data for name, data in found if not name.startswith("tmp/") and not name.endswith(".search.json")}


def problems(fault: str, code: int, state: str, said: str, seconds: float, folder: Path) -> Iterator[str]:
    """What must not happen."""
    if state == "mixed":
        yield "results are neither old nor new"
    if code not in CODES.get(fault, (0, 130)):
        yield f"exit code {code}"
    if code == 0 and state == "old":
        yield "exit code 0 and old results"
    errors = sum(line.startswith("error: ") for line in said.splitlines())
    if code > 0 and errors != 1:
        yield f"{errors} messages: {said[-200:]!r}"
    if fault != FULL and seconds > ENDS:
        yield f"it took {seconds:.0f} s to end"
    if fault != "SIGKILL" and (left := [p.name for p in (folder / "tmp").iterdir()]):
        yield f"left: {left}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", choices=COMMANDS, help="one of them; all by default")
    parser.add_argument("--moments", type=int, default=MOMENTS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    preload()
    bad = 0
    with tempfile.TemporaryDirectory() as name:
        for command in COMMANDS:
            if command != (options.command or command):
                continue
            found = scene(command, Path(name) / command)
            for fault in FAULTS:
                draw, states = random.Random(f"{options.seed} {command} {fault}"), Counter[str]()
                for moment in range(options.moments):
                    state, wrong = meet(found, fault, Path(name) / command, draw)
                    states[state] += 1
                    bad += bool(wrong)
                    if wrong:
                        print(f"{command}, {fault}, moment {moment}: {'; '.join(wrong)}", flush=True)
                counts = ", ".join(f"{state} {count}" for state, count in sorted(states.items()))
                print(f"{command:8} {fault:10} {options.moments} moments: {counts}", flush=True)
    print(f"{bad} problems")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
