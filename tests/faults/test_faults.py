"""Every planted fault is caught, at the place where it has to be seen first; what is good is not."""

from collections.abc import Callable, Sequence
from functools import cache

import onnx
import pytest
import torch
from _pytest.mark import ParameterSet
from torch import nn

from attn_export.exporter.artifacts import OnnxFile
from attn_export.exporter.records.policies import POLICIES
from attn_export.exporter.runtimes.base import Runtime, Settings
from attn_export.exporter.validation.compute_reference import compute_reference
from attn_export.exporter.validation.first_divergence import EXTRA_OUTPUTS, PREFIXES, find_first_divergence, open_onnx
from attn_export.exporter.validation.validate import validate
from tests.faults.catalogue import FAULTS, NETWORKS, PLACES, PUBLISHED, USUAL, Fault
from tests.faults.editing import Place
from tests.faults.planting import ONE_THREAD, Subject, is_seen_where_expected, judge
from tests.faults.weights import scale_weight
from tests.numbers import or_infinite


@pytest.fixture(scope="session")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Subject]:
    """``subject(name)`` is shared."""
    return cache(lambda name: Subject(name, tmp_path_factory.mktemp(name)))


def case(fault: Fault, name: str) -> ParameterSet:
    """A test of the usual run, or of the full one."""
    marks = () if name in USUAL else pytest.mark.full
    return pytest.param(fault, name, id=f"{fault.name}-{name}", marks=marks)


@pytest.mark.parametrize("name", [n if n in USUAL else pytest.param(n, marks=pytest.mark.full) for n in NETWORKS])
def test_the_good_files_agree(name: str, subject: Callable[[str], Subject]) -> None:
    made = subject(name)
    for file in (made.file, made.half):
        verdict = validate(file, made.reference, ONE_THREAD)
        assert verdict.agrees
        assert verdict.gates_missed == ""
        assert or_infinite(verdict.worst.ratio) < 0.6 * POLICIES[file.precision].limit
        assert find_first_divergence(file, made.model, made.reference, ONE_THREAD) is None


@pytest.mark.parametrize(
    ("fault", "name"),
    [case(fault, name) for fault in FAULTS for name in fault.networks],
)
def test_a_fault_is_found_where_it_was_planted(fault: Fault, name: str, subject: Callable[[str], Subject]) -> None:
    found = judge(fault, subject(name))
    assert found.caught, f"unavailable: {found.ratio:.2f} times the baseline"
    assert is_seen_where_expected(fault, found), f"seen in {found.tensor}: {found.check}"


def weights_of(made: Subject) -> list[str]:
    return [t.name for t in onnx.load(made.file.path).graph.initializer if t.name.endswith("weight")]


@pytest.mark.parametrize("name", ["se_digits", "cbam_digits"])
def test_no_weight_of_a_trained_network_can_be_scaled_by_1_0001_unseen(
    name: str, subject: Callable[[str], Subject]
) -> None:
    """Every layer in turn, but for those that training left without effect: a hidden unit that is never positive."""
    made = subject(name)
    module = Subject(name, made.folder).model.module
    for weight in weights_of(made):
        place = Place(weight, "", "", "")
        file = made.faulty(lambda edited, p=place: scale_weight(edited, p))  # type: ignore[misc]
        verdict = validate(file, made.reference, ONE_THREAD)
        assert verdict.agrees == is_without_effect(module, weight, made), (weight, verdict.worst)


def is_without_effect(module: nn.Module, weight: str, made: Subject) -> bool:
    """Whether the network computes the same with the weight doubled, on all images."""
    before = [module(torch.from_numpy(batch.arrays["input"])) for batch in made.reference.batches]
    parameter = module.get_parameter(weight)
    parameter.data.mul_(2)
    after = [module(torch.from_numpy(batch.arrays["input"])) for batch in made.reference.batches]
    parameter.data.div_(2)
    return all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_network_is_not_taken_for_another_of_the_same_shape(subject: Callable[[str], Subject]) -> None:
    made = subject("se_digits")
    other = Subject("se_digits", made.folder).model
    other.module.get_parameter("conv1.weight").data.mul_(1.001)
    assert not validate(made.file, compute_reference(other, made.reference.batches), ONE_THREAD).agrees


# Where each is planted, as seen from the block.
STARTS = {
    "its pool takes the maximum": "in the attention",
    "its mean divided by n - 1": "in the attention",
    "gate always open": "in the attention",
    "average and maximum swapped": "in the attention",
    "one channel zeroed": "before the attention",
    "one weight's sign flipped": "before the attention",
}


@pytest.mark.parametrize(
    ("fault", "name"),
    [case(f, name) for f in FAULTS if f.name in STARTS for name in f.networks if name not in PUBLISHED],
)
def test_the_error_starts_in_the_block_in_which_it_was_planted(
    fault: Fault, name: str, subject: Callable[[str], Subject]
) -> None:
    made, place = subject(name), PLACES[name]
    file = made.faulty(lambda edited: fault.plant(edited, place))
    first = validate(file, made.reference, ONE_THREAD).first_disagreement
    assert first is not None
    start = find_first_divergence(file, made.model, made.reference, ONE_THREAD, kind=first.kind)
    assert start is not None
    assert start.how == EXTRA_OUTPUTS
    assert start.before
    attention = place.gate.removesuffix(".scale_activation").split(".attention")[0]
    attention = f"{place.block}.attention" if attention != place.gate.removesuffix(".scale_activation") else attention
    if STARTS[fault.name] == "in the attention":
        assert start.module_path.startswith(attention)
        assert not start.is_input or start.module_path != attention
    else:
        assert start.module_path.startswith(place.block)
        assert start.is_input or not start.module_path.startswith(attention)
    halved = find_first_divergence(file, made.model, made.reference, ONE_THREAD, kind=first.kind, extra_outputs=False)
    assert halved is not None
    assert halved.how == PREFIXES
    assert (halved.module_path, halved.is_input) == (start.module_path, start.is_input)


def test_a_fault_behind_the_last_block_starts_in_none(subject: Callable[[str], Subject]) -> None:
    made, fault = subject("se_digits"), next(f for f in FAULTS if f.name == "outputs permuted")
    file = made.faulty(lambda edited: fault.plant(edited, PLACES["se_digits"]))
    assert find_first_divergence(file, made.model, made.reference, ONE_THREAD) is None


def test_a_fault_that_more_outputs_would_hide_is_found_in_prefixes(subject: Callable[[str], Subject]) -> None:
    """The runtime computes wrong unless it is to return more, as one that is kept from fusing."""
    made, place = subject("cbam_digits"), PLACES["cbam_digits"]
    fault = next(f for f in FAULTS if f.name == "its pool takes the maximum")
    faulty = made.faulty(lambda edited: fault.plant(edited, place))
    asked: list[bool] = []

    def fusing(file: OnnxFile, settings: Settings, tensors: Sequence[str], instead: bool) -> Runtime:
        asked.append(instead)
        return open_onnx(faulty if instead else made.file, settings, tensors, instead)

    start = find_first_divergence(made.file, made.model, made.reference, ONE_THREAD, fusing)
    assert start is not None
    assert (start.how, start.module_path) == (PREFIXES, f"{place.block}.attention.ChannelGate.avg_pool")
    assert asked[0] is False
    assert all(asked[1:])
    assert len(asked) <= 10
