"""What somebody sees who has only just installed it."""

import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from itertools import pairwise

import pytest

from attn_export.cli import command_names, renamed

Finished = subprocess.CompletedProcess[str]
Command = Callable[..., Finished]

HEAVY = ("torch", "onnx", "onnx_ir", "onnxscript", "onnxruntime", "numpy", "tensorrt", "tensorrt_rtx")
MAIN_OPTIONS = ("--onnx", "--arch", "--input", "--dynamic", "--static", "--opset", "--out", "--runtimes", "--threads")


def options_of(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_shows_the_main_commands_options_first_and_then_the_commands(attn_export: Command, flag: str) -> None:
    done = attn_export(flag)
    assert done.returncode == 0
    assert done.stderr == ""
    options, commands, rest = done.stdout.partition("Commands")
    assert commands
    for option in MAIN_OPTIONS:
        assert option in options
    for name in command_names():
        assert re.search(rf"^ *{name}  +\w", rest, re.MULTILINE), name
    assert "attn-export model.pt --onnx" in options, "an example to copy"


def test_nothing_said_shows_the_help(attn_export: Command) -> None:
    assert attn_export().stdout == attn_export("--help").stdout
    assert attn_export().returncode == 0


@pytest.mark.parametrize("command", command_names())
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help_and_the_flags_that_all_have(attn_export: Command, command: str, flag: str) -> None:
    done = attn_export(command, flag)
    assert done.returncode == 0
    assert done.stderr == ""
    assert f"attn-export {command}" in done.stdout
    assert {"--json", "--quiet", "--debug", "--help"} <= options_of(done.stdout)


@pytest.mark.parametrize("command", command_names())
def test_no_option_is_without_its_explanation(attn_export: Command, command: str) -> None:
    for line in attn_export(command, "--help").stdout.splitlines():
        if match := re.match(r"│ [* ]+(--[a-z-]+)(.*)│$", line):
            kinds = r"(--[a-z-]+|-[a-z]\b|<[^>]*>|[A-Z]{2,}|\[[^]]*\]|\s)"
            assert re.sub(kinds, "", match[2]), f"{command} {match[1]} has no words beside it"


ENGINE_OPTIONS = {"--gpu", "--backend", "--profile-batch", "--size", "--allow-mixed", "--keep-going"}


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("export", {"--engine", "--precision", "--device", *ENGINE_OPTIONS}),
        (
            "build",
            {
                "--output",
                "--precision",
                "--workspace",
                "--timing-cache",
                "--version-compatible",
                "--hardware-compatible",
            }
            | ENGINE_OPTIONS,
        ),
        ("validate", {"--trust", "--threads"}),
    ],
)
def test_what_a_command_takes_stands_in_its_help(attn_export: Command, command: str, options: set[str]) -> None:
    assert options <= set(re.findall(r"--[a-z0-9-]+", attn_export(command, "--help").stdout))


@pytest.mark.parametrize("command", ["export", "build", "inspect", "validate", "bench", "compare", "doctor"])
def test_help_lines_up(attn_export: Command, command: str) -> None:
    """Frames are closed, nothing is cut off, and no line of a paragraph ends where the next word had room."""
    lines = attn_export(command, "--help").stdout.splitlines()
    assert "…" not in "".join(lines)
    framed = [line for line in lines if line.startswith(("│", "╭", "╰"))]
    assert {(len(line), line[-1] in "│╮╯") for line in framed} == {(len(framed[0]), True)}
    for line, following in pairwise(lines):
        if line[:1] == following[:1] == " " and line.strip() and following.strip():
            first_word = following.split()[0]
            assert len(line.rstrip()) + 1 + len(first_word) >= len(framed[0]) - 6, line


def test_an_option_has_one_meaning_in_all_commands(attn_export: Command) -> None:
    """Shared flags are described in the same words."""
    for flag in ("--json", "--quiet", "--debug"):
        told = set()
        for command in command_names():
            words = " ".join(re.sub(r"[│╭╮╰╯─]", " ", attn_export(command, "--help").stdout).split())
            told.add(words.split(f"{flag} ")[-1].split(" --")[0])
        assert len(told) == 1, told


@pytest.mark.parametrize("arguments", [["--json", "--help"], ["--quiet", "-h"], ["--debug", "--version"]], ids=" ".join)
def test_a_flag_of_every_command_before_help_and_version_does_no_harm(
    attn_export: Command, arguments: list[str]
) -> None:
    done = attn_export(*arguments)
    assert done.returncode == 0, done.stderr


def test_the_version_is_the_installed_one(attn_export: Command) -> None:
    done = attn_export("--version")
    assert done.returncode == 0
    assert done.stdout == f"attn-export {version('attn-export')}\n"
    assert done.stderr == ""


def python(code: str) -> Finished:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


LIGHT = (
    "import attn_export.cli",
    "import attn_export.exporter, attn_export.exporter.errors, attn_export.exporter.artifacts",
    "import attn_export.exporter.system.files, attn_export.exporter.system, attn_export.exporter.system.progress",
    "from attn_export.cli import run",
    "run(['--help'])",
    *(f"run(['{c}', '--help'])" for c in ("export", "create", "build", "validate", "inspect", "doctor")),
    "run(['--version'])",
    "run(['model.pt', '--onnx', '--input', 'large'])",
    "run(['model.pt', '--onnx', '--dynamic', 'depth'])",
    "run(['pyproject.toml', '--engine', '--precision', 'fp12'])",
    "run(['pyproject.toml', '--onnx', '--precision', 'tf32'])",
)
WATCHED = f"""
import sys
def heavy():
    return sorted(set(sys.modules) & set({HEAVY!r}))
for doing in {LIGHT!r}:
    exec(doing)
    if heavy():
        sys.exit(f"{{doing}} imports {{heavy()}}")
import numpy
sys.exit(0 if heavy() else "an import isn't seen")
"""


def test_help_and_refusals_import_no_heavy_module() -> None:
    done = python(WATCHED)
    assert done.returncode == 0, done.stderr


BLOCK = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Absent())
from attn_export.cli import run
"""


def test_help_needs_nothing_of_what_the_work_needs() -> None:
    pages = (["--help"], ["export", "--help"], ["models", "--help"], ["create", "--help"])
    done = python(f"{BLOCK}\nsys.exit(any([run(page) for page in {pages!r}]))")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("--json") >= len(pages)
    assert done.stderr == ""


def test_the_block_of_these_tests_does_block() -> None:
    assert "No module named 'torch'" in python(f"{BLOCK}\nimport torch").stderr


RENAMED_OPTIONS = [
    ("validate", "--promise", "--require"),
    ("bench", "--own-process", "--isolate"),
    ("export", "--batch", "--profile-batch"),
    ("build", "--batch", "--profile-batch"),
]


@pytest.mark.parametrize(("command", "old", "new"), RENAMED_OPTIONS)
def test_an_old_name_of_an_option_works_and_says_the_new_one(
    command: str, old: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert renamed([command, old, f"{old}=1", "model.pt"]) == [command, new, f"{new}=1", "model.pt"]
    assert capsys.readouterr().err.count(f"{old} is called {new} now") == 2


def test_the_batch_sizes_to_time_keep_their_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert renamed(["bench", "model.onnx", "--batch", "1,8"]) == ["bench", "model.onnx", "--batch", "1,8"]
    assert capsys.readouterr().err == ""
