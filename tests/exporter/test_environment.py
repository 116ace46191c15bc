"""What a machine has, where the machine is this one, and where it is one that was made up: says so in its name."""

import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from attn_export.exporter.system import gpus, install, libraries, survey
from attn_export.exporter.system.gpus import Gpu, GpuSurvey
from attn_export.exporter.system.jetson import Jetson, find_jetson
from attn_export.exporter.system.jobs import jobs
from attn_export.exporter.system.libraries import WANTED, Library, Wanted, look_for
from attn_export.exporter.system.machine import memory
from attn_export.exporter.system.missing import missing
from attn_export.exporter.system.supervision import private_folder

# Jetson.

RELEASE = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 01:49:37\n"


@pytest.mark.parametrize(
    ("model", "release", "expected"),
    [
        (
            "NVIDIA Jetson AGX Orin Developer Bundle\0",
            RELEASE,
            Jetson("NVIDIA Jetson AGX Orin Developer Bundle", "36.4.3"),
        ),
        ("NVIDIA Jetson Orin Nano\0", None, Jetson("NVIDIA Jetson Orin Nano", None)),
        ("NVIDIA Orin NX Developer Bundle\0", "nonsense", Jetson("NVIDIA Orin NX Developer Bundle", None)),
        (None, RELEASE, Jetson("unknown Jetson", "36.4.3")),
        ("Raspberry Pi 5 Model B Rev 1.0\0", None, None),
        (None, None, None),
    ],
)
def test_a_jetson_is_known_by_its_board_and_its_release(
    model: str | None, release: str | None, expected: Jetson | None, tmp_path: Path
) -> None:
    for place, text in (("proc/device-tree/model", model), ("etc/nv_tegra_release", release)):
        if text is not None:
            (tmp_path / place).parent.mkdir(parents=True)
            (tmp_path / place).write_text(text)
    assert find_jetson(tmp_path) == expected


@pytest.mark.parametrize(
    ("l4t", "jetpack"), [("32.7.1", "JetPack 4"), ("35.4.1", "JetPack 5"), ("36.4.3", "JetPack 6"), ("99.1", None)]
)
def test_the_jetpack_of_a_release(l4t: str, jetpack: str | None) -> None:
    assert Jetson("x", l4t).jetpack == jetpack
    assert Jetson("x", None).jetpack is None


def test_this_machine_is_no_jetson_unless_it_says_so() -> None:
    here = find_jetson()
    assert here is None or here.model


# Memory.


def test_memory_is_in_bytes_and_available_is_part_of_it() -> None:
    found = memory()
    assert found.total is not None
    assert found.available is not None
    assert 2**27 < found.available <= found.total


# Libraries that were made up, each really imported.


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Library]:
    """``made_up("raise KeyError")`` looks for a library whose module holds this code."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(code: str) -> Library:
        (tmp_path / "made_up_library.py").write_text(code)
        return look_for(Wanted("made-up-library", "made_up_library", "nothing"))

    return make


def test_a_library_that_works(made_up: Callable[[str], Library]) -> None:
    found = made_up("__version__ = '1.2'\nprint('noise')")
    assert (found.works, found.installed, found.version, found.trouble) == (True, True, "1.2", "")


def test_another_program_that_starts_meanwhile_clears_no_folder_of_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    start = libraries._exit_code

    def later(command: Sequence[str]) -> int | None:
        with private_folder():
            return start(command)

    monkeypatch.setattr(libraries, "_exit_code", later)
    assert look_for(Wanted("json", "json", "nothing")).works


def test_a_library_that_is_not_there() -> None:
    found = look_for(Wanted("made-up-library", "made_up_library_that_is_absent", "nothing"))
    assert (found.works, found.installed, found.trouble) == (False, False, "not installed")


LIBRARY_OBJECT = "libnvinfer.so.10: cannot open shared object file: No such file or directory"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (f"raise ImportError('{LIBRARY_OBJECT}')", f"can't be imported: {LIBRARY_OBJECT}"),
        ("import made_up_part", "can't be imported: there is no module made_up_part"),
        ("raise KeyError('x\\ny')", "can't be imported: KeyError: 'x\\ny'"),
        ("class Odd(BaseException): pass\nraise Odd", "can't be imported: Odd"),
        ("raise SystemExit(4)", "can't be imported: SystemExit: 4"),
        ("raise KeyboardInterrupt", "can't be imported: KeyboardInterrupt"),
        ("import os; os._exit(5)", "can't be imported: it ends Python with exit code 5"),
        (
            f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})",
            "can't be imported: it ends Python by signal 9",
        ),
        ("def f(:", "can't be imported: SyntaxError: invalid syntax"),
    ],
)
def test_an_import_that_fails_in_whatever_way_is_words(code: str, says: str, made_up: Callable[[str], Library]) -> None:
    found = made_up(code)
    assert not found.works
    assert found.installed
    assert found.trouble.startswith(says)


def test_an_import_that_hangs_is_not_waited_for(
    made_up: Callable[[str], Library], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries, "SECONDS", 0.5)
    assert "had not finished" in made_up("import time; time.sleep(60)").trouble


def test_where_no_second_python_can_be_started(made_up: Callable[[str], Library], monkeypatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert "no second Python can be started" in made_up("").trouble


def test_the_current_folder_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError('not that one')")
    monkeypatch.chdir(tmp_path)
    assert look_for(Wanted("json", "json", "nothing")).works


# Jobs and what is missing, on machines that were made up.

NO_GPU = GpuSurvey(trouble="there is no libcuda.so.1")
ADA = GpuSurvey((Gpu("NVIDIA GeForce RTX 4090", "8.9"),))
HOPPER = GpuSurvey((Gpu("NVIDIA H200", "9.0"),))
ORIN = Jetson("NVIDIA Jetson AGX Orin", "36.4.3")
RTX_TARGETS = {"architectures": ["sm86", "sm89"]}
CUDA_FACTS: dict[str, dict[str, Any]] = {
    "torch": {"cuda": "13.0", "usable": True},
    "onnxruntime": {"providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]},
    "tensorrt-rtx": RTX_TARGETS,
}
CPU_FACTS: dict[str, dict[str, Any]] = {
    "torch": {"cuda": None, "usable": False},
    "onnxruntime": {"providers": ["CPUExecutionProvider"]},
    "tensorrt-rtx": RTX_TARGETS,
}


def have(facts: dict[str, dict[str, Any]], *absent: str, broken: dict[str, str] | None = None) -> dict[str, Library]:
    found = {}
    for wanted in WANTED:
        if wanted.name in absent:
            found[wanted.name] = Library(wanted, None, "not installed", installed=False)
        elif broken and wanted.name in broken:
            found[wanted.name] = Library(wanted, "1.0", f"can't be imported: {broken[wanted.name]}")
        else:
            found[wanted.name] = Library(wanted, "1.0", facts=facts.get(wanted.name, {}))
    return found


MACHINES: dict[str, tuple[dict[str, Library], GpuSurvey, Jetson | None, str]] = {
    "laptop without GPU": (have(CPU_FACTS, "tensorrt"), NO_GPU, None, "ynnynn"),
    "workstation with everything": (have(CUDA_FACTS), ADA, None, "yyyyyy"),
    "workstation without classic": (have(CUDA_FACTS, "tensorrt"), ADA, None, "yyyyny"),
    "data centre, RTX only": (have(CUDA_FACTS, "tensorrt"), HOPPER, None, "yyyynn"),
    "data centre with both": (have(CUDA_FACTS), HOPPER, None, "yyyyyy"),
    "Jetson": (have(CPU_FACTS, "tensorrt-rtx"), GpuSurvey((Gpu("Orin", "8.7"),)), ORIN, "ynnnyy"),
    "Jetson whose GPU nobody lists": (have(CPU_FACTS, "tensorrt-rtx"), NO_GPU, ORIN, "ynnnyy"),
    "nothing": (have(CPU_FACTS, *(w.name for w in WANTED)), NO_GPU, None, "nnnnnn"),
    "torch broken": (have(CPU_FACTS, broken={"torch": "libc10.so is missing"}), NO_GPU, None, "nnnynn"),
}


@pytest.mark.parametrize("name", MACHINES)
def test_the_jobs_of_a_made_up_machine(name: str) -> None:
    found, gpu, jetson, expected = MACHINES[name]
    told = jobs(found, gpu, jetson)
    assert "".join("y" if job.possible else "n" for job in told) == expected, told
    assert all(job.reason for job in told)
    assert [job.name for job in told][::3] == ["export to ONNX", "build engines for RTX GPUs"]


def test_reasons_name_what_is_wrong() -> None:
    by_name = {job.name: job.reason for job in jobs(*MACHINES["torch broken"][:3])}
    assert by_name["export to ONNX"] == "torch can't be imported: libc10.so is missing"
    by_name = {job.name: job.reason for job in jobs(*MACHINES["data centre, RTX only"][:3])}
    assert by_name["run engines here"] == "tensorrt-rtx has nothing for sm90; tensorrt is not installed"


@pytest.mark.parametrize("name", MACHINES)
def test_what_is_missing_has_a_command_that_fits_the_machine(name: str) -> None:
    found, gpu, jetson, _ = MACHINES[name]
    told = {part.name: part for part in missing(found, gpu, jetson)}
    assert all(part.gives for part in told.values())
    assert all(part.command or part.how for part in told.values())
    assert ("tensorrt" in told) == (not found["tensorrt"].works)
    if jetson:
        assert "tensorrt-rtx" not in told, "there is no build for it"


def test_install_commands() -> None:
    told = {part.name: part.command for part in missing(*MACHINES["nothing"][:3])}
    assert told["tensorrt-rtx"] == "pip install 'attn-export[rtx]'"
    assert told["tensorrt"] == "pip install 'attn-export[tensorrt]'"
    assert told["torch"] == "pip install --force-reinstall torch"
    jetson = {p.name: p.command for p in missing(have(CPU_FACTS, "tensorrt", "tensorrt-rtx"), NO_GPU, ORIN)}
    assert jetson["tensorrt"] == install.TENSORRT_ON_JETSON == "sudo apt-get install python3-libnvinfer"
    laptop = {part.name: part.command for part in missing(*MACHINES["laptop without GPU"][:3])}
    assert laptop["torch with CUDA"] == install.CUDA_TORCH
    assert "onnxruntime-gpu" in (laptop["onnxruntime with CUDA"] or "")
    assert laptop["GPU with its driver"] is None


def test_a_machine_with_everything_misses_nothing() -> None:
    assert missing(*MACHINES["workstation with everything"][:3]) == ()


# Probes that fail themselves.


def test_a_probe_that_breaks_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise LookupError("as made up")

    for name in ("look_for", "find_gpus", "find_jetson", "cpu_name", "memory", "operating_system"):
        monkeypatch.setattr(survey, name, broken)
    shares: list[float] = []
    found = survey.survey(shares.append)
    assert all(library.trouble == "couldn't be looked for: as made up" for library in found.libraries)
    assert found.gpus.trouble == "couldn't be looked for: as made up"
    assert found.jetson is None
    assert not any(job.possible for job in found.jobs)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_gpus_are_those_that_another_process_of_this_machine_finds() -> None:
    assert survey.find_gpus().gpus == gpus.found()


def test_a_driver_that_hangs_or_crashes_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"error": "", "message": "it ends Python by signal 11"}
    monkeypatch.setattr(survey, "import_isolated", lambda _: answer)
    assert survey.find_gpus() == GpuSurvey(trouble="the CUDA driver doesn't answer: it ends Python by signal 11")
