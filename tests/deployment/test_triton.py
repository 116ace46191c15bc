"""Model repositories for Triton: what is in them, and what is refused. test_triton_server.py asks the server itself."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

from attn_export.exporter.deployment.text_format import Message, Word, text_format
from attn_export.exporter.deployment.triton import preferred_batches
from attn_export.exporter.errors import InputError, OutputError, UsageError
from attn_export.exporter.records.report import Report
from attn_export.exporter.system.progress import NullProgress
from attn_export.exporter.workflows.package import PackageSettings, package
from attn_export.exporter.workflows.package_triton import TritonSettings, write_repository
from tests.deployment.files import CHECKPOINT, FACTS, PIXELS, classifier, measured

CONFIG = f"""\
# written by attn-export
# checkpoint: sha256 {CHECKPOINT}
# verdict: agrees with PyTorch in float64, error ratio 1.5
# input: (pixels / 255 - (0.4, 0.5, 0.6)) / (0.2, 0.3, 0.1)
name: "digits"
platform: "onnxruntime_onnx"
max_batch_size: 8
default_model_filename: "model.onnx"
input {{
  name: "input"
  data_type: TYPE_FP32
  dims: 3
  dims: 8
  dims: 8
}}
output {{
  name: "output"
  data_type: TYPE_FP32
  dims: 3
  label_filename: "labels.txt"
}}
instance_group {{
  count: 1
  kind: KIND_AUTO
}}
version_policy {{
  latest {{
    num_versions: 1
  }}
}}
dynamic_batching {{
}}
model_warmup {{
  name: "batch 1"
  batch_size: 1
  inputs {{
    key: "input"
    value {{
      data_type: TYPE_FP32
      dims: 3
      dims: 8
      dims: 8
      random_data: true
    }}
  }}
}}
"""


def packaged(path: Path, report: Report | None = None, **settings: object) -> tuple[Path, str]:
    """The folder of a model and its configuration."""
    settings_ = TritonSettings(**settings)  # type: ignore[arg-type]
    (folder,) = write_repository([path], path.parent / "models", settings_, report=report)
    return folder, (folder / "config.pbtxt").read_text()


def test_a_model_is_its_file_its_labels_and_its_configuration(tmp_path: Path) -> None:
    source = classifier(tmp_path / "digits.onnx")
    folder, config = packaged(source)
    assert config == CONFIG
    assert {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} == {
        "config.pbtxt",
        "labels.txt",
        "1/model.onnx",
    }
    assert (folder / "1" / "model.onnx").read_bytes() == source.read_bytes()
    assert (folder / "labels.txt").read_text() == 'cat\ndog\nüber "cow"\n'
    assert [entry.name for entry in folder.parent.iterdir()] == ["digits"], "nothing hidden is left"


def test_pixels_say_their_layout(tmp_path: Path) -> None:
    _, config = packaged(classifier(tmp_path / "a.onnx", ("batch", 8, 8, 3), PIXELS, TensorProto.UINT8))
    assert 'name: "input"\n  data_type: TYPE_UINT8\n  format: FORMAT_NHWC\n  dims: 8\n  dims: 8\n  dims: 3\n' in config


def test_the_best_classes_have_numbers_and_no_names(tmp_path: Path) -> None:
    """The server would call the first of them by the name of class 0."""
    facts = {**FACTS, "postprocessing": {"top": 3}}
    write_repository([classifier(tmp_path / "digits.onnx", facts=facts)], tmp_path / "models", TritonSettings())
    made = tmp_path / "models" / "digits"
    assert "label_filename" not in (made / "config.pbtxt").read_text()
    assert (made / "labels.txt").read_text().splitlines() == FACTS["class_names"]


def test_a_fixed_batch_is_not_batched(tmp_path: Path) -> None:
    _, config = packaged(classifier(tmp_path / "a.onnx", (4, 3, 8, 8)))
    assert "max_batch_size: 0\n" in config
    assert "dims: 4\n  dims: 3\n" in config
    assert "dynamic_batching" not in config
    assert "batch_size: 0\n" in config


def test_open_sizes_get_no_warm_up_because_nothing_says_a_real_one(tmp_path: Path) -> None:
    _, config = packaged(classifier(tmp_path / "a.onnx", ("batch", 3, "height", "width")))
    assert "dims: 3\n  dims: -1\n  dims: -1\n" in config
    assert "model_warmup" not in config


def test_batches_that_raise_throughput_are_preferred(tmp_path: Path) -> None:
    """8 images in the time of 4 twice: no gain, so 8 isn't waited for; 16 is beyond the server's largest batch."""
    source = classifier(tmp_path / "a.onnx")
    _, config = packaged(source, measured(source, {1: 1.0, 2: 1.2, 4: 1.6, 8: 3.2, 16: 3.3}))
    assert "preferred_batch_size: 2\n  preferred_batch_size: 4\n  max_queue_delay" in config
    assert 900 < int(config.partition("max_queue_delay_microseconds: ")[2].split()[0]) < 1100
    assert [f'name: "batch {n}"' in config for n in (1, 2, 4, 8)] == [True, True, True, False]


def test_without_a_gain_nothing_is_waited_for(tmp_path: Path) -> None:
    source = classifier(tmp_path / "a.onnx")
    assert "preferred" not in packaged(source, measured(source, {1: 1.0, 2: 2.0, 4: 4.0}))[1]
    assert preferred_batches((), 8) == ()


def test_latencies_of_another_file_are_refused(tmp_path: Path) -> None:
    source = classifier(tmp_path / "a.onnx")
    report = measured(source, {1: 1.0})
    source.write_bytes(source.read_bytes() + b"\x08\x0a")  # the same message, another file
    with pytest.raises(InputError, match="other files"):
        packaged(source, report)
    assert not (tmp_path / "models" / "a").exists()


def test_weights_in_another_file_go_along(tmp_path: Path) -> None:
    source = classifier(tmp_path / "a b.onnx")
    model = onnx.load(source)
    onnx.save(model, source, save_as_external_data=True, location="w.bin", size_threshold=0)
    folder, _ = packaged(source)
    assert folder.name == "a_b", "no spaces in addresses"
    (tmp_path / "w.bin").unlink()
    onnx.checker.check_model(folder / "1" / "model.onnx", full_check=True)


def test_names_of_several_models_differ(tmp_path: Path) -> None:
    paths = [classifier(tmp_path / place / "model.onnx") for place in ("a", "b")]
    folders = write_repository(paths, tmp_path / "models", TritonSettings())
    assert [folder.name for folder in folders] == ["model", "model_onnx"]


def test_a_model_that_is_there_stays(tmp_path: Path) -> None:
    source = classifier(tmp_path / "a.onnx")
    folder, config = packaged(source)
    with pytest.raises(OutputError, match="there already"):
        packaged(source)
    assert (folder / "config.pbtxt").read_text() == config
    packaged(source, name="other")
    assert len(list(folder.parent.iterdir())) == 2


@pytest.mark.parametrize("other", ["photo.jpg", "notes/readme.md"])
def test_a_folder_of_other_things_is_refused(other: str, tmp_path: Path) -> None:
    place = tmp_path / "models" / other
    place.parent.mkdir(parents=True)
    place.write_text("mine")
    with pytest.raises(InputError, match=f"holds {other.partition('/')[0]}"):
        packaged(classifier(tmp_path / "a.onnx"))
    assert place.read_text() == "mine"


def test_a_file_in_place_of_the_repository_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        packaged(classifier(tmp_path / "a.onnx"))


def test_a_name_that_is_no_address_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="addresses"):
        packaged(classifier(tmp_path / "a.onnx"), name="my model")


def test_what_triton_has_no_type_for_is_refused(tmp_path: Path) -> None:
    source = classifier(tmp_path / "a.onnx")
    model = onnx.load(source)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.STRING
    onnx.save(model, source)
    with pytest.raises(InputError, match="serves numbers only"):
        packaged(source)


class Notes(NullProgress):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def note(self, message: str) -> None:
        self.seen.append(message)


def test_bfloat16_is_for_gpus(tmp_path: Path) -> None:
    """ONNX Runtime loads no such file on a CPU."""
    notes = Notes()
    path = classifier(tmp_path / "a.onnx", dtype=TensorProto.BFLOAT16)
    with pytest.raises(UsageError, match=r"a\.onnx is bf16, which ONNX Runtime doesn't compute on a CPU"):
        write_repository([path], tmp_path / "cpu", TritonSettings(kind="cpu"))
    package([path, classifier(tmp_path / "b.onnx")], PackageSettings(repository=tmp_path / "any"), notes)
    assert notes.seen == ["a.onnx is bf16: engines compute that, and ONNX Runtime on a CPU doesn't"]


def test_a_fixed_batch_is_said(tmp_path: Path) -> None:
    notes, fixed = Notes(), classifier(tmp_path / "a.onnx", (1, 3, 8, 8))
    package([fixed, classifier(tmp_path / "b.onnx")], PackageSettings(repository=tmp_path / "any"), notes)
    package(fixed, PackageSettings(device=tmp_path / "device"), notes)
    assert notes.seen == [
        "a.onnx has no dynamic batch: Triton puts no requests together, and --max-batch doesn't count"
    ]


def test_text_is_quoted() -> None:
    message: Message = {"name": 'a "b" \\ c\n', "kind": Word("KIND_CPU"), "on": True, "none": [], "n": [1, 2]}
    assert text_format(message) == 'name: "a \\"b\\" \\\\ c\\n"\nkind: KIND_CPU\non: true\nn: 1\nn: 2\n'
