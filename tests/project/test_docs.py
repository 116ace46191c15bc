"""What the pages say is true: links lead somewhere, commands run, options exist."""

import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attn_export.cli import command_names, run
from attn_export.exporter.records.document import encode
from attn_export.exporter.workflows.package_device import write_device_folder
from attn_export.exporter.workflows.verify import sign_folder
from tests import shared
from tests.budgets.sample import sample_report
from tests.checkpoint import libraries
from tests.deployment.files import measured, write_keys
from tests.sweep import in_process

ROOT = Path(__file__).resolve().parents[2]
PAGES = [p for p in (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))) if p.exists()]
WITH_COMMANDS = [p for p in PAGES if p.name != "CHANGELOG.md"]

FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)
LINK = re.compile(r"!?\[(?:[^\]\[]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
HTML_LINK = re.compile(r"<(?:img|a|source)\b[^>]*?\b(?:src|href|srcset)=\"([^\"]+)\"")
REFERENCE = re.compile(r"^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
OUTSIDE = re.compile(r"^(?:[a-z][a-z0-9+.-]*:|//)", re.IGNORECASE)

# A page that leaves the shell what it can't do: angle brackets and capitals stand for the reader's own words.
PLACEHOLDER = re.compile(r"<\w+>|\b(?:FILE|DIR|COMMAND|NAME|PATH)\b|\.\.\.|…")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(text: str) -> str:
    """The page without its code, in which brackets mean something else."""
    return re.sub(r"`[^`\n]+`", "", FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """As GitHub makes them of the headings."""
    headings = re.findall(r"^#{1,6}\s+(.+?)\s*#*$", FENCE.sub("", text), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "") for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


def links(text: str) -> list[str]:
    found = [match for pattern in (LINK, HTML_LINK, REFERENCE) for match in pattern.findall(prose(text))]
    return [link for link in found if not OUTSIDE.match(link)]


def commands(text: str) -> list[str]:
    """The ``attn-export`` lines of the shell blocks: after the prompt, continued lines joined, comments gone."""
    found = []
    for block in FENCE.finditer(text):
        if block["language"] not in ("console", "sh", "bash", "shell"):
            continue
        for line in re.sub(r"\s*\\\n\s*", " ", block["body"]).splitlines():
            line = line.strip()
            if block["language"] == "console":
                if not line.startswith("$ "):
                    continue
                line = line.removeprefix("$ ")
            if line.startswith("attn-export"):
                found.append(re.sub(r"\s+#.*$", "", line))
    return found


EXAMPLES = [(page, command) for page in WITH_COMMANDS for command in commands(page.read_text(encoding="utf-8"))]


# The tools of this file, which have to work before there is anything to read.

SAMPLE = """
# A `model.pt` first

See [the page](docs/page.md#part-one), ![chart](a b.svg), [out](https://example.org) and `[not](this.md)`.
<img src="chart.svg" width="80%">

```console
$ attn-export model.pt \\
    --onnx            # writes model.onnx
model.onnx
$ ls
```

```sh
attn-export models --json
# attn-export not this
```

```python
attn-export nor this
```
"""


def test_the_collector_finds_what_it_is_meant_to_find() -> None:
    assert commands(SAMPLE) == ["attn-export model.pt --onnx", "attn-export models --json"]
    assert links(SAMPLE) == ["docs/page.md#part-one", "chart.svg"]
    assert anchors(SAMPLE) == {"a-modelpt-first"}


# Links.


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_and_image_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for link in links(text):
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), f"{name_of(page)} links to {link}"
        assert target.is_relative_to(ROOT), f"{name_of(page)} links to {link}, outside the repository"
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{name_of(page)} links to {link}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_fence_is_closed_and_says_its_language(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count("```") % 2 == 0
    assert all(block["language"] for block in FENCE.finditer(text))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_are_named_in_code_are_there(page: Path) -> None:
    """`exporter/capture.py` in a sentence is a requirement too."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    for path in re.findall(r"`((?:exporter|models|tests|docs|benchmarks|examples)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), f"{name_of(page)} names {path}"


def test_names_that_the_architecture_mentions_are_in_the_code() -> None:
    text = FENCE.sub("", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
    named = set(re.findall(r"`(?:\w+\.)*(\w*[A-Z_]\w*)(?:\(\))?`", text))
    code = " ".join(
        path.read_text(encoding="utf-8")
        for room in ("exporter", "models", "tests")
        for path in (ROOT / room).rglob("*.py")
    )
    assert len(named) > 10
    assert named <= set(re.findall(r"\w+", code))


# Options and commands.


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    """The options of each command, as its help shows them."""
    from contextlib import redirect_stdout
    from io import StringIO

    found = {}
    for name in command_names():
        with redirect_stdout(StringIO()) as printed:
            assert run([name, "--help"]) == 0
        found[name] = set(re.findall(r"(?<![\w-])(--[a-z][a-z0-9-]*|-[a-z])(?![\w-])", printed.getvalue()))
    return found


# Options of other programs, and of benchmarks, that the pages name.
OTHERS = {
    "--version",
    "--editable",
    "--upgrade",
    "--constraint",
    "--index-url",
    "--extra-index-url",
    "--save",
    "--noise",
    "--peer",
    "--fewest-seconds",
    "--nodes",
    "--networks",
}


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_every_option_in_a_sentence_exists(page: Path, known: dict[str, set[str]]) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    in_code = " ".join(re.findall(r"`([^`\n]+)`", text))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", in_code))
    assert named <= set.union(*known.values()) | OTHERS


@pytest.mark.parametrize(("page", "command"), EXAMPLES, ids=[f"{name_of(p)}: {c}" for p, c in EXAMPLES])
def test_every_option_of_an_example_belongs_to_its_command(
    page: Path, command: str, known: dict[str, set[str]]
) -> None:
    for name, _, option in (words.partition(" ") for words in options_of(command)):
        assert option in {"", *known[name], "--version"}


# Examples.

# Files that have the same name in the folder and in the examples.
AS_THEY_ARE = (
    *("mine.pt", "weights.pt", "words.pt", "yours.pt"),
    *("images.npy", "latencies.json", "key.pem", "pub.pem"),
)
CHECKPOINT = ROOT / "examples" / "digits" / "cbam_digits.pt"
ARCHITECTURE = "cbam_resnet8"
IMAGE = "1x1x16x16"
# Runs as the installed program does; the others in this process, which takes a tenth of the time.
IN_A_PROCESS = "attn-export model.pt --onnx"


def value_of(option: str, words: list[str]) -> str:
    return next((after for word, after in itertools.pairwise(words) if word == option), "")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained checkpoint, its bare weights, and everything that is made of it. Nobody writes to it."""
    import numpy as np
    import torch

    from attn_export.exporter.artifacts import Precision
    from attn_export.exporter.checkpoint.load import load
    from attn_export.exporter.engine.settings import EngineSettings
    from attn_export.exporter.network.batches import nominal_batches
    from attn_export.exporter.system.progress import NullProgress
    from attn_export.exporter.workflows.export import export_loaded
    from attn_export.exporter.workflows.settings import ExportSettings
    from tests.engine.building import build_file
    from tests.faults.quantization import quantized
    from tests.inputs.networks import Words
    from tests.strangers.nets import SEResNet

    folder = tmp_path_factory.mktemp("prepared")
    shutil.copy(CHECKPOINT, folder / "model.pt")
    torch.save(torch.load(CHECKPOINT, weights_only=True)["state_dict"], folder / "weights.pt")
    model = load(folder / "model.pt")
    torch.save(model.module, folder / "mine.pt")
    torch.save(Words().state_dict(), folder / "words.pt")
    torch.save({"model": SEResNet().state_dict(), "epoch": 3}, folder / "yours.pt")
    export_loaded(
        model, folder, "model", ExportSettings(runtimes=(), precisions=(Precision.FP32, Precision.FP16)), NullProgress()
    )
    images = [batch.arrays["input"] for batch in nominal_batches(model.inputs, 4, 12)]
    np.save(folder / "images.npy", np.concatenate(images))
    sign_once(folder)
    save_digits(folder / "photos")
    quantized(folder / "model.onnx", folder / "model.int8.onnx", images, per_channel=True)
    build_file(folder / "model.onnx", folder / "model.engine", EngineSettings(gpus=("sm86",)))
    latencies = measured(folder / "model.onnx", {1: 1.0, 2: 1.2, 4: 1.6})
    (folder / "latencies.json").write_text(encode(latencies), encoding="utf-8")
    (folder / "model.report.json").write_text(encode(sample_report()), encoding="utf-8")
    return folder


def save_digits(folder: Path) -> None:
    """Three pictures of each digit in a folder of its own."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    digits = load_digits()
    for digit in range(10):
        (folder / str(digit)).mkdir(parents=True)
        for i, pixels in enumerate(digits.images[digits.target == digit][:3]):
            Image.fromarray(np.round(pixels * 255 / 16).astype(np.uint8)).save(folder / str(digit) / f"{i}.png")


def sign_once(folder: Path) -> None:
    """Keys, and a signed folder."""
    private, _ = write_keys(folder, "pub.pem")
    write_device_folder([folder / "model.onnx"], folder / "signed")
    sign_folder(folder / "signed", private)


def prepare(words: list[str], prepared: Path, folder: Path) -> list[str]:
    """Write the files that the command reads, under the names that the page uses.

    Returns:
        The command, with the shape of the small network's images where it needs one.
    """
    results = {value_of(option, words) for option in ("-o", "--output", "--out", "--report", "--triton", "--device")}
    bare = value_of("--arch", words)
    assert bare in ("", ARCHITECTURE)
    for word in (word for word in words if word not in results):
        if (first := Path(word).parts[:1]) in (("photos",), ("signed",)):
            shutil.copytree(prepared / first[0], folder / first[0], dirs_exist_ok=True)
        ending = word.partition(".")[2]
        source = (
            prepared / word
            if word in AS_THEY_ARE
            else prepared / f"{'weights' if bare and ending == 'pt' else 'model'}.{ending}"
        )
        if ending and source.is_file():
            shutil.copy(source, folder / word)
        if ending == "engine":
            shutil.copy(f"{source}.json", folder / f"{word}.json")
    if "plan.toml" in words:
        shutil.copy(prepared / "model.pt", folder)
    if "plan.toml" in words and "--init" not in words:
        plan = 'models = ["model.pt"]\nruntimes = ["eager"]\nseconds = 0.1\n'
        (folder / "plan.toml").write_text(plan, encoding="utf-8")
    if any(word.startswith("nets.py") for word in words):
        shutil.copy(ROOT / "tests" / "inputs" / "networks.py", folder / "nets.py")
    if any(word.startswith("net.py") for word in words):
        shutil.copy(ROOT / "tests" / "strangers" / "nets.py", folder / "net.py")
    words = [IMAGE if word == "1x3x224x224" else word for word in words]
    return briefly([*words, "--input", IMAGE] if bare and "create" not in words else words)


def briefly(words: list[str]) -> list[str]:
    """Without latencies, or with a moment of them, on one thread."""
    if not {"--onnx", "--engine", "bench"} & {*words}:
        return words
    # Several seconds each: the latencies of the examples that are about them are enough, and a moment of each.
    if not {"--runtimes", "--no-bench", "--budget", "bench"} & {*words}:
        words = [*words, "--no-bench"]
    if "--no-bench" not in words:
        words = [*words, "--seconds", "0.3"]  # the last one counts
    return words if "--threads" in words else [*words, "--threads", "1"]


def run_in_a_process(words: list[str]) -> int:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-m", "attn_export.cli", *words], check=False, env=environment).returncode


def options_of(command: str) -> set[str]:
    """The options of an example, with the name of its command, "export" for the main one."""
    words = shlex.split(command)[1:]
    name = words[0] if words and words[0] in command_names() else "export"
    return {name} | {f"{name} {word.partition('=')[0]}" for word in words if re.match(r"--?[a-z]", word)}


def examples() -> Iterator[Any]:
    """Every example once. Those with no option that an earlier one doesn't have are left to `make test-all`."""
    seen: set[str] = set()
    for command in dict.fromkeys(command for _, command in EXAMPLES):
        new = options_of(command) - seen
        seen |= new
        yield pytest.param(command, id=command, marks=() if new else pytest.mark.full)


@pytest.mark.parametrize("command", examples())
def test_every_example_runs(
    command: str,
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if PLACEHOLDER.search(command):
        pytest.skip("it holds words that the reader is to replace")
    if re.search(r"[|;&$`]", command):
        pytest.skip("it needs a shell")
    words = prepare(shlex.split(command.partition(" > ")[0])[1:], prepared, tmp_path)
    monkeypatch.chdir(tmp_path)
    shared.use(monkeypatch)
    libraries.use(monkeypatch)
    in_process.use(monkeypatch)
    code = (run_in_a_process if command == IN_A_PROCESS else run)(words)
    assert code == 0, f"{command}\n{capfd.readouterr().err}"


def test_the_example_that_has_a_process_of_its_own_is_on_a_page() -> None:
    assert IN_A_PROCESS in {command for _, command in EXAMPLES}
