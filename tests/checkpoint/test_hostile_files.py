"""Nothing in a file is run: what an attack would leave behind must not be there, and the file is refused by name."""

import os
import pickle
import subprocess
import sys
import types

import pytest
import torch

from attn_export.exporter.checkpoint.inert import HARMLESS_BUILTINS, hostile
from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.checkpoint.pickles.files import names_in
from attn_export.exporter.errors import InputError, UntrustedCheckpointError

TRAPS = [f"{os.system.__module__}.system", "builtins.eval", "builtins.exec", "subprocess.Popen", "runpy.run_path"]
PLACES = {
    "alone": lambda weights, trap: trap,
    "beside the weights": lambda weights, trap: {"state_dict": weights, "args": trap},
    "among the weights": lambda weights, trap: {**weights, "extra": trap},
    "before the weights": lambda weights, trap: {"extra": trap, "state_dict": weights},
    "deep inside": lambda weights, trap: {"model": {"state_dict": weights, "log": [1, ("a", {"b": trap})]}},
}


def spellings(name: str) -> set[str]:
    """Up to protocol 2 a pickle says what a module was called in Python 2."""
    return {name, name.replace("builtins.", "__builtin__."), name.replace("subprocess.", "commands.")}


@pytest.mark.parametrize("name", TRAPS)
def test_the_traps_of_these_tests_do_go_off_where_pickles_are_run(traps, marker, name):
    """Without this the rest of the file would prove nothing."""
    result = pickle.loads(pickle.dumps(traps[name]))
    if isinstance(result, subprocess.Popen):
        result.wait()
    assert marker.exists()


# Each way to have something run in one place, and each place with one way.
@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("name", "place"), [(name, "beside the weights") for name in TRAPS] + [(TRAPS[0], place) for place in PLACES]
)
def test_a_call_in_a_checkpoint_is_not_made_and_is_named(write, weights, traps, marker, name, place, protocol, legacy):
    few = dict(list(weights.items())[:6])
    path = write(PLACES[place](few, traps[name]), protocol=protocol, legacy=legacy)
    with pytest.raises(UntrustedCheckpointError, match="Nothing was run") as caught:
        load(path, arch="cbam_resnet8")
    assert not marker.exists()
    assert spellings(name) & set(caught.value.names)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_call_in_a_bare_pickle_is_not_made_and_is_named(tmp_path, traps, marker, protocol):
    (tmp_path / "model.pt").write_bytes(pickle.dumps(traps[TRAPS[0]], protocol))
    with pytest.raises(UntrustedCheckpointError, match=TRAPS[0]):
        load(tmp_path / "model.pt")
    assert not marker.exists()


# Pickles that no pickler writes, as opcodes: a call through INST, OBJ, getattr, and names that are put together.
HANDMADE = {
    "inst": b"(S'touch MARKER'\nios\nsystem\n.",
    "obj": b"(cos\nsystem\nS'touch MARKER'\no.",
    "reduce": b"cos\nsystem\n(S'touch MARKER'\ntR.",
    "getattr": b"c__builtin__\ngetattr\n(c__builtin__\n__import__\n(S'os'\ntRS'system'\ntR(S'touch MARKER'\ntR.",
    "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0ctouch MARKER\x85R.",
    "from the memo": b"\x80\x04}\x94\x8c\x02os\x94\x8c\x06system\x940h\x01h\x02\x93\x8c\x0ctouch MARKER\x85R.",
}


@pytest.mark.parametrize("opcodes", HANDMADE.values(), ids=HANDMADE)
def test_opcodes_that_no_pickler_writes_run_nothing_either(tmp_path, monkeypatch, opcodes):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.pt").write_bytes(opcodes)
    with pytest.raises(InputError):
        load(tmp_path / "model.pt")
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_a_call_behind_the_last_weights_of_the_legacy_format_is_not_made(write, weights, traps, marker):
    """The legacy format is several pickles in a row; one more at its end is read by nobody."""
    path = write(weights, legacy=True)
    path.write_bytes(path.read_bytes() + pickle.dumps(traps[TRAPS[0]], 2))
    load(path, arch="cbam_resnet8")
    assert not marker.exists()


@pytest.fixture
def unimported(tmp_path, marker, monkeypatch):
    """A class that can be pickled now, in a module whose import would leave a mark."""
    name = "a_training_script"
    module = types.ModuleType(name)
    module.Net = type("Net", (torch.nn.Module,), {"__module__": name})
    module.Config = type("Config", (), {"__module__": name})
    monkeypatch.setitem(sys.modules, name, module)
    yield module
    assert name not in sys.modules
    assert not marker.exists()


def with_children_of(network: torch.nn.Module, other: torch.nn.Module) -> torch.nn.Module:
    for name, child in network.named_children():
        other.add_module(name, child)
    return other


def forget(module: types.ModuleType, folder, marker, monkeypatch) -> None:
    (folder / f"{module.__name__}.py").write_text(f"open({str(marker)!r}, 'w')\nclass Net: ...\nclass Config: ...\n")
    monkeypatch.syspath_prepend(folder)
    del sys.modules[module.__name__]


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_class_in_the_file_is_not_imported(write, weights, unimported, tmp_path, marker, monkeypatch, legacy):
    path = write({"state_dict": weights, "config": unimported.Config()}, legacy=legacy)
    forget(unimported, tmp_path, marker, monkeypatch)
    model = load(path, arch="cbam_resnet8")
    assert "a_training_script.Config" in model.notes[0]


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_the_class_of_a_pickled_module_is_not_imported(
    write, network, unimported, tmp_path, marker, monkeypatch, legacy
):
    path = write(with_children_of(network, unimported.Net()), legacy=legacy)
    forget(unimported, tmp_path, marker, monkeypatch)
    model = load(path, arch="cbam_resnet8")
    assert torch.equal(model.module.fc.weight, network.fc.weight)


def test_a_module_that_hides_its_weights_is_refused_with_the_names_it_wants(
    write, unimported, tmp_path, marker, monkeypatch
):
    path = write(unimported.Config())
    forget(unimported, tmp_path, marker, monkeypatch)
    with pytest.raises(UntrustedCheckpointError, match="can't be read without running code") as caught:
        load(path, arch="cbam_resnet8")
    assert caught.value.names == ("a_training_script.Config",)
    assert "--trust" in caught.value.hint


def test_only_trust_runs_what_stands_in_a_file(write, weights, traps, marker):
    path = write({"state_dict": weights, "args": traps["builtins.eval"]})
    load(path, arch="cbam_resnet8", trust=True)
    assert marker.exists(), "this is what --trust means, and what everything above is about"


def foreign(path):
    with path.open("rb") as stream:
        return names_in(stream, path.stat().st_size)


def test_the_names_in_a_file_are_listed_in_order_and_once(write, weights, traps):
    path = write({"a": traps["runpy.run_path"], "b": traps["builtins.eval"], "c": traps["runpy.run_path"]})
    assert foreign(path) == ["runpy.run_path", "__builtin__.eval"]


def test_an_honest_file_names_nothing_foreign(write, weights):
    assert foreign(write(weights)) == []


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "posix.popen",
        "nt.system",
        "subprocess.call",
        "builtins.exec",
        "__builtin__.compile",
        "socket.socket",
        "cProfile.run",
        "pydoc.pipepager",
        "numpy.testing._private.utils.runstring",
        "torch.hub.load",
        "torch.jit.load",
        "torch.utils.bottleneck.__main__.run_cprofile",
    ],
)
def test_names_that_only_an_attack_uses_are_hostile(name):
    assert hostile(["argparse.Namespace", name]) == [name]


@pytest.mark.parametrize(
    "name",
    [
        "argparse.Namespace",
        "osmosis.Net",
        "collections.Counter",
        "numpy.dtype",
        "testing.Net",
        "torch.jit.loaders.Net",
        "models.net.Net",
        "pathlib.PosixPath",
    ]
    + [f"builtins.{n}" for n in sorted(HARMLESS_BUILTINS)],
)
def test_names_that_training_scripts_use_are_not_hostile(name):
    assert hostile([name]) == []
