"""GPUs by name, by architecture, or the one that is here; and who builds for them."""

from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from attn_export.exporter.engine.backend import Backend
from attn_export.exporter.engine.targets import JETSON, PRODUCTS, Targets, parse_targets, resolve
from attn_export.exporter.errors import AttnExportError, RuntimeUnavailableError, UsageError
from attn_export.exporter.records.engine import PORTABLE
from attn_export.exporter.system.gpus import Gpu

AMPERE, ORIN = Gpu("NVIDIA GeForce RTX 3080", "8.6"), Gpu("Orin", "8.7")
# The classic TensorRT has no ComputeCapability; nothing else of it is asked here.
CLASSIC = Backend("tensorrt", SimpleNamespace(__version__="10.3.0"))


def test_every_product_of_the_table_has_its_architecture() -> None:
    for architecture, products in PRODUCTS.items():
        for product in products:
            targets = parse_targets([product])
            assert (*targets.architectures, *targets.bundles) == (architecture,), product


def test_no_product_stands_in_the_table_twice() -> None:
    every = [product for products in PRODUCTS.values() for product in products]
    assert len(set(every)) == len(every)


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("sm86", "sm86"),
        ("SM_86", "sm86"),
        ("sm_86", "sm86"),
        ("8.6", "sm86"),
        ("86", "sm86"),
        ("12.0", "sm120"),
        ("sm120", "sm120"),
        ("120", "sm120"),
        (" sm89 ", "sm89"),
        ("RTX 4090", "sm89"),
        ("rtx4090", "sm89"),
        ("RTX-4090", "sm89"),
        ("rtx_4090", "sm89"),
        ("NVIDIA GeForce RTX 4090", "sm89"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "sm89"),
        ("NVIDIA GeForce RTX 3080 Ti", "sm86"),
        ("RTX 3080Ti", "sm86"),
        ("NVIDIA GeForce RTX 3080 Ti Laptop GPU", "sm86"),
        ("GeForce RTX 4070 Ti SUPER", "sm89"),
        ("NVIDIA GeForce RTX 2080 SUPER", "sm75"),
        ("Tesla T4", "sm75"),
        ("NVIDIA A10", "sm86"),
        ("NVIDIA L40S", "sm89"),
        ("NVIDIA A100-SXM4-80GB", "sm80"),
        ("NVIDIA A100 80GB PCIe", "sm80"),
        ("NVIDIA H100 80GB HBM3", "sm90"),
        ("NVIDIA RTX 6000 Ada Generation", "sm89"),
        ("NVIDIA RTX A6000", "sm86"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "sm120"),
        ("NVIDIA H200 NVL", "sm90"),
    ],
)
def test_a_gpu_has_many_spellings(name: str, architecture: str) -> None:
    assert parse_targets([name]) == Targets(architectures=(architecture,))


@pytest.mark.parametrize(
    "name",
    [
        "Jetson Orin Nano",
        "jetson orin nano",
        "NVIDIA Jetson Orin Nano",
        "Jetson AGX Orin",
        "sm87",
        "8.7",
        "Jetson Orin",
    ],
)
def test_a_jetson_gets_a_bundle(name: str) -> None:
    targets = parse_targets([name])
    assert targets == Targets(bundles=("sm87",))
    assert not targets.wants_engine


def test_a_jetson_is_the_current_gpu_where_it_is_here() -> None:
    targets = parse_targets(["Jetson Orin Nano"], [ORIN])
    assert targets == Targets(current=True)
    assert targets.wants_engine


def test_another_jetson_than_the_one_that_is_here_gets_a_bundle() -> None:
    assert parse_targets(["Jetson Thor"], [ORIN]).bundles == (parse_targets(["Jetson Thor"]).bundles)
    assert not parse_targets(["Jetson Thor"], [ORIN]).current


def test_engines_and_bundles_are_asked_for_together() -> None:
    targets = parse_targets(["sm86", "Jetson Orin NX", "RTX 4090", "current"], [AMPERE])
    assert targets == Targets(("sm86", "sm89"), ("sm87",), current=True)
    assert targets.wants_engine


def test_one_architecture_by_several_names_is_one() -> None:
    assert parse_targets(["RTX 3080", "sm86", "8.6", "RTX 3090"]).architectures == ("sm86",)
    assert parse_targets(["Jetson Orin NX", "Jetson Orin Nano", "sm87"]).bundles == ("sm87",)


def test_nothing_asked_is_an_engine_for_the_backends_default() -> None:
    targets = parse_targets([])
    assert targets == Targets()
    assert targets.wants_engine


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("RTX 4091", "RTX 4090"),
        ("RTX 480", "RTX 4080"),
        ("Jetson Orrin Nano", "Jetson Orin Nano"),
        ("DGX Sparc", "DGX"),
    ],
)
def test_an_unknown_name_gets_the_nearest_ones(name: str, near: str) -> None:
    with pytest.raises(UsageError, match=f"--gpu {name}") as caught:
        parse_targets(["sm86", name])
    assert near in caught.value.hint
    assert "sm86" in caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["", " ", "nvidia", "GeForce", "sm", "sm8", "8", "8.66", "super", "sm_", "-1", "８６"])
def test_what_is_no_gpu_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--gpu"):
        parse_targets([name])


@given(name=st.text(max_size=30))
@example("RTX (")
@example("sm86\n")
def test_any_text_is_an_architecture_or_an_error_of_ours(name: str) -> None:
    try:
        targets = parse_targets([name])
    except UsageError:
        return
    for architecture in (*targets.architectures, *targets.bundles):
        assert architecture.startswith("sm")
        assert architecture[2:].isascii()
        assert architecture[2:].isdigit()


# Who builds.


def test_rtx_builds_for_gpus_by_name(rtx: Backend) -> None:
    assert set(rtx.named_gpus) >= {"sm75", "sm80", "sm86", "sm89", "sm120"}
    assert resolve(parse_targets(["sm86", "RTX 4090"]), rtx, ()) == ("sm86", "sm89")


def test_rtx_builds_a_portable_engine_where_none_is_named(rtx: Backend) -> None:
    assert resolve(Targets(), rtx, ()) == (PORTABLE,)
    assert resolve(Targets(), rtx, (AMPERE,)) == (PORTABLE,)


def test_rtx_builds_for_the_current_gpu_by_its_architecture(rtx: Backend) -> None:
    assert resolve(parse_targets(["current"]), rtx, (AMPERE,)) == ("sm86",)
    assert resolve(parse_targets(["current", "sm86", "sm89"]), rtx, (AMPERE,)) == ("sm86", "sm89")


@pytest.mark.parametrize("name", ["H100", "sm90", "10.0", "sm100", "sm53"])
def test_rtx_says_for_what_it_cannot_build(rtx: Backend, name: str) -> None:
    with pytest.raises(UsageError, match="can't build for sm") as caught:
        resolve(parse_targets(["sm86", name]), rtx, ())
    assert "sm86" in caught.value.hint


@pytest.mark.parametrize("backend", ["rtx", "classic"])
def test_the_current_gpu_has_to_be_there(rtx: Backend, backend: str) -> None:
    with pytest.raises(RuntimeUnavailableError, match="--gpu current needs a GPU") as caught:
        resolve(parse_targets(["current"]), rtx if backend == "rtx" else CLASSIC, ())
    assert caught.value.exit_code == 5
    assert "--gpu sm86" in caught.value.hint


def test_rtx_cannot_build_on_a_hopper(rtx: Backend) -> None:
    with pytest.raises(UsageError, match="can't build for sm90"):
        resolve(parse_targets(["current"]), rtx, (Gpu("NVIDIA H100", "9.0"),))


def test_the_classic_one_builds_for_the_gpu_that_is_here() -> None:
    for names in ([], ["current"], ["sm86"], ["RTX 3090", "current"]):
        assert resolve(parse_targets(names, [AMPERE]), CLASSIC, (AMPERE,)) == ("sm86",)
    assert resolve(parse_targets(["Jetson Orin Nano"], [ORIN]), CLASSIC, (ORIN,)) == ("sm87",)


def test_the_classic_one_builds_for_no_other() -> None:
    with pytest.raises(UsageError, match=r"\(sm86\), not for sm89") as caught:
        resolve(parse_targets(["sm89"]), CLASSIC, (AMPERE,))
    assert "tensorrt-rtx" in caught.value.hint


def test_the_classic_one_needs_a_gpu() -> None:
    with pytest.raises(RuntimeUnavailableError, match=r"tensorrt 10\.3\.0 needs a GPU"):
        resolve(Targets(), CLASSIC, ())


def test_the_first_gpu_counts() -> None:
    here = (AMPERE, Gpu("NVIDIA GeForce RTX 4090", "8.9"))
    assert resolve(parse_targets(["current"], here), CLASSIC, here) == ("sm86",)


@given(names=st.lists(st.sampled_from(["sm75", "sm86", "sm87", "sm90", "current", "RTX 4090", "sm110"]), max_size=4))
def test_whatever_is_resolved_can_be_named_to_rtx(names: list[str]) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    backend = Backend("tensorrt-rtx", trt)
    for here in ((), (AMPERE,), (ORIN,)):
        try:
            found = resolve(parse_targets(names, here), backend, here)
        except AttnExportError:
            continue
        assert found == (PORTABLE,) or set(found) <= set(backend.named_gpus)
        assert not set(found) & set(JETSON)


@pytest.mark.parametrize(
    ("word", "suggested"),
    [("orin", "Jetson Orin"), ("Orin nano", "Jetson Orin Nano"), ("thor", "Jetson Thor"), ("a6000", "RTX A6000")],
)
def test_a_part_of_a_name_suggests_the_products_with_it(word: str, suggested: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_targets([word])
    hint = caught.value.hint.partition("?")[0]
    assert suggested in hint
    assert all(word.lower().split()[-1] in product.lower() for product in hint.removeprefix("Is it ").split(" or "))
