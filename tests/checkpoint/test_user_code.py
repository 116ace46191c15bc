"""Networks that only the user's own code can build: ``--factory``, ``--code``, and whole pickled modules."""

import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from attn_export.exporter.artifacts import only_input
from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.errors import InputError, StateDictMismatchError, UntrustedCheckpointError, UsageError
from tests.checkpoint.blog_senet import SENet

BLOG = Path(__file__).with_name("blog_senet.py")


@pytest.fixture
def users(tmp_path) -> Iterator[Path]:
    """A folder with the user's sources: ``their_net.py`` and a package ``their_models``."""
    folder = tmp_path / "code"
    (folder / "their_models").mkdir(parents=True)
    shutil.copy(BLOG, folder / "their_net.py")
    (folder / "their_models" / "__init__.py").write_text("")
    shutil.copy(BLOG, folder / "their_models" / "senet.py")
    before, path = set(sys.modules), list(sys.path)
    yield folder
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.startswith("their_"):
            del sys.modules[name]


@pytest.fixture
def senet() -> SENet:
    torch.manual_seed(3)
    return SENet(width=8).eval()


@pytest.fixture
def weights_file(tmp_path, senet) -> Path:
    torch.save(senet.state_dict(), tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


def pickled_as(module: torch.nn.Module, place: str, path: Path, **options) -> Path:
    """Save a whole module whose classes are in the module ``place``, as the user's own training did."""
    theirs = types.ModuleType(place)
    exec(BLOG.read_text().partition("if __name__")[0], theirs.__dict__)
    network = theirs.SENet()
    network.load_state_dict(module.state_dict())
    with pytest.MonkeyPatch.context() as patch:
        for name in (place.partition(".")[0], place):
            patch.setitem(sys.modules, name, theirs)
        torch.save(network, path, **options)
    return path


def same_function(model, network) -> bool:
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return torch.equal(model.module(x), network(x))


@pytest.mark.parametrize("factory", ["their_net:senet", "their_net:SENet", "their_models.senet:senet"])
def test_a_factory_builds_the_network_and_takes_the_weights(weights_file, users, senet, factory):
    model = load(weights_file, factory=factory, code=users)
    assert same_function(model, senet)
    assert f"{factory} built the network" in model.notes
    assert model.inputs == only_input((3, 224, 224))
    assert "1x3x224x224 is the first usual input that the network runs on; --input says another" in model.notes


def test_a_file_of_code_is_imported_under_its_own_name(weights_file, users, senet):
    model = load(weights_file, factory="their_net:SENet", code=users / "their_net.py", input_shape=(3, 32, 32))
    assert same_function(model, senet)
    assert model.inputs == only_input((3, 32, 32))


def test_the_current_folder_is_searched_where_no_code_is_named(weights_file, users, senet, monkeypatch):
    monkeypatch.chdir(users)
    assert same_function(load(weights_file, factory="their_net:senet"), senet)


def test_a_network_that_is_all_in_its_net_takes_its_weights(tmp_path, users):
    (users / "their_outer.py").write_text(
        "from torch import nn\nfrom their_net import SENet\nclass Outer(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.net = nn.Module()\n"
        "        self.net.model = SENet()\n    def forward(self, x):\n        return self.net.model(x)\n"
    )
    weights = {f"module.net.model.{name}": tensor for name, tensor in SENet().state_dict().items()}
    torch.save({"state_dict": weights}, tmp_path / "outer.pt")
    module = load(tmp_path / "outer.pt", factory="their_outer:Outer", code=users).module
    assert torch.equal(module.state_dict()["net.model.head.weight"], weights["module.net.model.head.weight"])


def test_of_several_networks_the_one_that_fits_is_taken(tmp_path, users):
    network = SENet()
    torch.save(
        {"generator": torch.nn.Conv2d(3, 3, 3).state_dict(), "critic": network.state_dict()}, tmp_path / "gan.pt"
    )
    model = load(tmp_path / "gan.pt", factory="their_net:SENet", code=users)
    assert torch.equal(model.module.state_dict()["head.weight"], network.state_dict()["head.weight"])
    assert "the weights are those under 'critic'" in model.notes


def test_tensors_that_the_network_lacks_are_named_with_the_way_out(tmp_path, users):
    torch.save({**SENet().state_dict(), "aux.weight": torch.zeros(3, 3)}, tmp_path / "more.pt")
    with pytest.raises(StateDictMismatchError, match=r"1 unexpected: aux\.weight") as caught:
        load(tmp_path / "more.pt", factory="their_net:SENet", code=users)
    assert "save the file without these" in caught.value.hint


def test_parameters_without_statistics_are_no_state_dict(tmp_path, users):
    torch.save(dict(SENet().named_parameters()), tmp_path / "parameters.pt")
    with pytest.raises(StateDictMismatchError, match="running_mean") as caught:
        load(tmp_path / "parameters.pt", factory="their_net:SENet", code=users)
    assert "save model.state_dict()" in caught.value.hint


def test_counters_of_operations_among_the_weights_are_left_out(tmp_path, users):
    counters = {"total_ops": torch.zeros(1), "stem.total_params": torch.zeros(1)}
    torch.save({**SENet().state_dict(), **counters}, tmp_path / "counted.pt")
    assert load(tmp_path / "counted.pt", factory="their_net:SENet", code=users).module.head is not None


def test_arguments_reach_the_factory(tmp_path, users):
    wide = SENet(width=16, num_classes=2).eval()
    torch.save({"state_dict": wide.state_dict(), "epoch": 3}, tmp_path / "wide.pt")
    model = load(tmp_path / "wide.pt", factory="their_net:senet", code=users, kwargs={"width": 16, "num_classes": 2})
    assert same_function(model, wide)


def test_weights_that_do_not_fit_are_listed_with_the_arguments_as_the_way_out(weights_file, users):
    with pytest.raises(StateDictMismatchError, match=r"don't fit what their_net:senet builds") as caught:
        load(weights_file, factory="their_net:senet", code=users, kwargs={"num_classes": 7})
    assert caught.value.misshapen == ("head.weight is (5, 16), expected (7, 16)", "head.bias is (5,), expected (7,)")
    assert "--kwargs" in caught.value.hint


@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        ("def build(): raise ValueError('no')", InputError, r"failed: ValueError: no \(their_bad.py, line 1\)"),
        ("def build(depth): ...", InputError, "TypeError: build.. missing 1 required positional argument: 'depth'"),
        ("def build(): return {'a': 1}", InputError, "returned a dict, expected is a network"),
        ("import torch\ndef build(): return torch.nn.ReLU", InputError, "returned the class ReLU"),
        ("def built(): ...", UsageError, "their_bad has no build"),
        ("build = 3", UsageError, "is a int, expected is a function"),
        ("import their_absent", InputError, r"No module named 'their_absent' \(their_bad.py, line 1\)"),
        ("raise SystemExit(2)", InputError, "the code ends the program"),
        ("1 / 0", InputError, r"ZeroDivisionError: division by zero \(their_bad.py, line 1\)"),
        ("def build(:", InputError, "SyntaxError"),
    ],
)  # fmt: skip
def test_what_goes_wrong_in_the_users_code_is_said_with_its_place(weights_file, users, body, error, says):
    (users / "their_bad.py").write_text(body)
    with pytest.raises(error, match=says) as caught:
        load(weights_file, factory="their_bad:build", code=users)
    assert caught.value.hint


def test_what_a_factory_prints_does_not_get_among_the_results(weights_file, users, capsys):
    (users / "their_loud.py").write_text("from their_net import senet\ndef build(): print('building'); return senet()")
    load(weights_file, factory="their_loud:build", code=users)
    assert capsys.readouterr() == ("", "building\n")


@pytest.mark.parametrize(
    ("code", "says"), [("nowhere", "isn't there"), ("weights.pt", "neither a folder nor a Python file")]
)
def test_code_that_is_no_code_is_a_mistake_in_the_command(weights_file, code, says):
    with pytest.raises(UsageError, match=says):
        load(weights_file, factory="their_net:senet", code=weights_file.parent / code)


def test_a_module_that_is_not_there_is_a_mistake_in_the_command(weights_file, users):
    with pytest.raises(UsageError, match="there is no module their_nets") as caught:
        load(weights_file, factory="their_nets:senet", code=users)
    assert "--code" in caught.value.hint


@pytest.mark.parametrize(
    ("place", "code"), [("their_models.senet", "."), ("their_net", "."), ("__main__", "their_net.py")]
)
def test_the_code_makes_a_pickled_module_and_nothing_else_in_the_file_is_run(tmp_path, users, senet, place, code):
    path = pickled_as(senet, place, tmp_path / "whole.pt")
    with pytest.raises(InputError, match="a whole pickled module of class SENet") as caught:
        load(path)
    assert "--code FILE.py" in caught.value.hint if place == "__main__" else "--code DIR" in caught.value.hint
    model = load(path, code=users / code)
    assert same_function(model, senet)
    assert model.name == "SENet"
    assert model.notes[0] == f"SENet was unpickled with {users / code} alone"


def test_a_class_that_the_code_lacks_is_named(tmp_path, users, senet):
    path = pickled_as(senet, "their_other", tmp_path / "whole.pt")
    with pytest.raises(UntrustedCheckpointError, match=r"holds a their_other\.SENet, which --code"):
        load(path, code=users)


def test_a_part_that_the_code_lacks_is_named(tmp_path, users, senet):
    (users / "their_net.py").write_text(
        BLOG.read_text().replace("class SELayer", "class Layer").replace("= SEL", "= L")
    )
    path = pickled_as(senet, "their_net", tmp_path / "whole.pt")
    with pytest.raises(UntrustedCheckpointError, match="holds a SENet with SELayer in it"):
        load(path, code=users)


def test_code_is_no_trust_in_the_rest_of_the_file(tmp_path, users, traps, marker, weights):
    torch.save({"model": weights, "args": traps["builtins.eval"]}, tmp_path / "hostile.pt")
    with pytest.raises(UntrustedCheckpointError, match="Nothing was run"):
        load(tmp_path / "hostile.pt", code=users, arch="cbam_resnet8")
    assert not marker.exists()


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_trust_finds_a_scripts_classes_in_the_code(tmp_path, users, senet, options):
    path = pickled_as(senet, "__main__", tmp_path / "whole.pt", **options)
    assert same_function(load(path, code=users / "their_net.py", trust=True), senet)
    with pytest.raises(InputError) as caught:
        load(path, trust=True)
    assert "--code FILE.py" in caught.value.hint


def test_a_module_of_torchs_layers_needs_no_code(write):
    module = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Hardswish()).eval()
    model = load(write(module), input_shape=(4, 8, 8))
    x = torch.randn(1, 4, 8, 8)
    assert torch.equal(model.module(x), module(x))


class FixedSize(torch.nn.Module):
    def __init__(self, size):
        super().__init__()
        self.conv = torch.nn.Conv2d(2, 4, 3, padding=1)
        self.head = torch.nn.Linear(4 * size * size, 3)

    def forward(self, x):
        return self.head(self.conv(x).flatten(1))


@pytest.mark.parametrize("size", [32, 64, 28])
def test_the_first_usual_size_that_a_network_runs_at_is_its_input(tmp_path, size):
    path = tmp_path / "fixed.pt"
    torch.save(FixedSize(size), path)
    assert load(path, code=Path(__file__)).inputs == only_input((2, size, size))


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (torch.nn.Sequential(torch.nn.Conv1d(12, 4, 9), torch.nn.AdaptiveAvgPool1d(1)), (12, 1000)),
        (torch.nn.Sequential(torch.nn.Conv1d(1, 2, 9), torch.nn.Flatten(), torch.nn.Linear(4080, 3)), (1, 2048)),
        (torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3)), (1, 32, 32, 32)),
        (torch.nn.Sequential(torch.nn.Linear(8, 3)), (8,)),
    ],
)
def test_signals_volumes_and_vectors_have_usual_sizes_too(tmp_path, module, shape):
    torch.save(module, tmp_path / "other.pt")
    assert load(tmp_path / "other.pt").inputs == only_input(shape)


@pytest.mark.parametrize("module", [FixedSize(9), torch.nn.Sequential(torch.nn.Embedding(8, 3))])
def test_an_input_that_can_not_be_found_has_to_be_said(tmp_path, module):
    path = tmp_path / "fixed.pt"
    torch.save(module, path)
    with pytest.raises(UsageError, match="doesn't say its input shape") as caught:
        load(path, code=Path(__file__))
    assert "--input" in caught.value.hint
