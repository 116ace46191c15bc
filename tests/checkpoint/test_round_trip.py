"""What `save` writes, `load` gives back."""

import errno
import hashlib
import resource
import signal
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attn_export.exporter.artifacts import Normalization, only_input
from attn_export.exporter.checkpoint.format import save
from attn_export.exporter.checkpoint.live import from_module
from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.errors import NonFiniteWeightsError, OutputError
from attn_export.models.registry import Architecture, build

NUMBERS = st.floats(min_value=2**-7, max_value=8, width=32)
ARCHITECTURES = st.builds(
    Architecture,
    backbone=st.just("resnet8"),
    attention=st.sampled_from(["none", "se", "cbam"]),
    num_classes=st.integers(1, 20),
    in_channels=st.integers(1, 5),
    reduction=st.integers(1, 80),
    kernel_size=st.sampled_from([3, 7]),
)


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    a, b = first.state_dict(), second.state_dict()
    return list(a) == list(b) and all(torch.equal(a[n], b[n]) for n in a)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arch=ARCHITECTURES, data=st.data())
def test_everything_that_was_saved_comes_back(tmp_path, arch, data):
    channels, classes = arch.in_channels, arch.num_classes
    per_channel = st.lists(NUMBERS, min_size=channels, max_size=channels).map(tuple)
    normalization = data.draw(st.none() | st.builds(Normalization, mean=per_channel, std=per_channel))
    names = data.draw(st.none() | st.lists(st.text(max_size=8), min_size=classes, max_size=classes))
    shape = (channels, data.draw(st.integers(1, 99)), data.draw(st.integers(1, 99)))
    module = build(arch)
    path = tmp_path / "model.pt"
    save(path, module, arch, input_shape=shape, normalization=normalization, class_names=names)
    model = load(path)
    assert same(model.module, module)
    assert (model.architecture, model.inputs[0].shape[1:], model.normalization) == (arch, shape, normalization)
    assert model.class_names == (None if names is None else tuple(names))
    assert model.notes == ()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arch=ARCHITECTURES)
def test_a_bare_state_dict_tells_every_argument_that_its_shapes_can_tell(tmp_path, arch):
    module = build(arch)
    torch.save(module.state_dict(), tmp_path / "model.pt")
    model = load(tmp_path / "model.pt", arch=arch.name)
    assert same(model.module, module)
    assert (model.architecture.num_classes, model.architecture.in_channels) == (arch.num_classes, arch.in_channels)
    if arch.attention == "cbam":
        assert model.architecture.kernel_size == arch.kernel_size


def test_the_loaded_network_computes_the_same(tmp_path, network, arch):
    model = load(save(tmp_path / "model.pt", network, arch))
    x = torch.randn(2, 1, 32, 32)
    assert torch.equal(model.module(x), network(x))


def test_the_loaded_network_is_ready_to_run_and_not_to_train(tmp_path, network, arch):
    model = load(save(tmp_path / "model.pt", network, arch))
    assert not any(m.training for m in model.module.modules())
    assert not any(p.requires_grad for p in model.module.parameters())
    assert all(not t.is_meta and t.device.type == "cpu" for t in model.module.state_dict().values())
    assert {t.dtype for t in model.module.parameters()} == {torch.float32}


def test_path_name_and_hash_are_those_of_the_file(tmp_path, network, arch):
    path = save(tmp_path / "model.pt", network, arch)
    model = load(path)
    assert model.path == path
    assert model.name == "cbam_resnet8"
    assert model.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_torchs_safe_loader_reads_the_file_without_us(tmp_path, network, arch):
    document = torch.load(save(tmp_path / "model.pt", network, arch), weights_only=True)
    assert (document["format"], document["version"]) == ("attn-export", 1)
    assert document["architecture"] == arch.to_dict()


def test_a_given_input_shape_stands_above_the_files(tmp_path, network, arch):
    assert load(save(tmp_path / "model.pt", network, arch), input_shape=(1, 48, 64)).inputs == only_input((1, 48, 64))


def test_a_network_in_training_is_saved_and_left_as_it_is(tmp_path, arch):
    module = build(arch).train()
    model = load(save(tmp_path / "model.pt", module, arch))
    assert same(model.module, module)
    assert module.training
    assert all(p.requires_grad for p in module.parameters())


def test_a_missing_folder_is_made(tmp_path, network, arch):
    assert save(tmp_path / "new" / "folder" / "model.pt", network, arch).is_file()


def test_an_older_file_is_replaced(tmp_path, network, arch):
    path = tmp_path / "model.pt"
    path.write_text("older")
    assert load(save(path, network, arch)).name == arch.name


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_another_number_of_class_names_is_refused(tmp_path, network, arch, count):
    with pytest.raises(ValueError, match=f"{count} class names for 3 classes"):
        save(tmp_path / "model.pt", network, arch, class_names=["x"] * count)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "misfit",
    [
        {"attention": "se"},
        {"backbone": "resnet20"},
        {"num_classes": 4},
        {"in_channels": 3},
        {"reduction": 2},
        {"kernel_size": 7},
    ],
)
def test_a_module_of_another_architecture_is_refused(tmp_path, arch, misfit):
    with pytest.raises(ValueError, match="the module is no cbam_resnet8"):
        save(tmp_path / "model.pt", build(replace(arch, **misfit)), arch)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(1, 32), (1, 32.0, 32), (1, 0, 32), (3, 32, 32)])
def test_an_input_shape_that_is_none_of_the_networks_is_refused(tmp_path, network, arch, shape):
    with pytest.raises(ValueError, match=r"is not \(C, H, W\)|the input has 3 channels"):
        save(tmp_path / "model.pt", network, arch, input_shape=shape)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("channels", [(3, 3), (1, 3), (3, 1), (0, 0)])
def test_a_normalization_of_other_channels_is_refused(tmp_path, network, arch, channels):
    normalization = Normalization(mean=(0.5,) * channels[0], std=(0.5,) * channels[1])
    with pytest.raises(ValueError, match="the normalization is not for 1 channels"):
        save(tmp_path / "model.pt", network, arch, normalization=normalization)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_an_output_error(tmp_path, network, arch):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="can't be written") as caught:
        save(tmp_path / "file" / "model.pt", network, arch)
    assert caught.value.exit_code == 6
    assert [p.name for p in tmp_path.rglob("*")] == ["file"]


def test_a_path_that_is_a_folder_is_an_output_error(tmp_path, network, arch):
    (tmp_path / "model.pt").mkdir()
    with pytest.raises(OutputError, match="can't be written"):
        save(tmp_path / "model.pt", network, arch)
    assert [p.name for p in tmp_path.rglob("*")] == ["model.pt"]


def test_a_disk_that_is_full_from_the_start_leaves_nothing_behind(tmp_path, network, arch, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match="No space left on device"):
        save(tmp_path / "model.pt", network, arch)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_files_only():
    """The system stops every write beyond 64 kB, as a full disk does."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_disk_that_fills_up_while_writing_leaves_the_older_file(tmp_path, network, arch, small_files_only):
    (tmp_path / "model.pt").write_text("older")
    with pytest.raises(OutputError):
        save(tmp_path / "model.pt", network, arch)
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]
    assert (tmp_path / "model.pt").read_text() == "older"


def test_an_interruption_leaves_nothing_behind(tmp_path, network, arch, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "model.pt", network, arch)
    assert list(tmp_path.iterdir()) == []


def test_the_hash_of_a_live_module_is_that_of_its_weights(network, arch):
    first = from_module(network, (1, 32, 32), arch)
    assert first.module is network
    assert first.sha256 == from_module(network, (1, 32, 32)).sha256
    other = build(arch)
    assert first.sha256 != from_module(other, (1, 32, 32)).sha256


def test_a_live_module_with_nan_is_refused_by_name(arch):
    module = build(arch)
    with torch.no_grad():
        module.fc.bias[1] = float("nan")
    with pytest.raises(NonFiniteWeightsError, match=r"NaN or infinity in fc\.bias") as caught:
        from_module(module, (1, 32, 32))
    assert caught.value.tensors == ("fc.bias",)
