"""The GPUs to build for, by architecture or product name.

Product names and their compute capabilities: https://developer.nvidia.com/cuda-gpus (and .../cuda/gpus/legacy), read
2026-11. The table has only common ones at the edge; any other GPU is named by its architecture.
"""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from attn_export.exporter.engine.backend import Backend
from attn_export.exporter.errors import RuntimeUnavailableError, UsageError
from attn_export.exporter.records.engine import PORTABLE
from attn_export.exporter.system.gpus import Gpu

CURRENT = "current"

PRODUCTS = {
    "sm75": ("RTX 2060", "RTX 2070", "RTX 2080", "T4"),
    "sm80": ("A100", "A30"),
    "sm86": ("RTX 3050", "RTX 3060", "RTX 3070", "RTX 3080", "RTX 3090", "RTX A2000", "RTX A4000", "RTX A6000", "A10"),
    "sm87": ("Jetson Orin", "Jetson AGX Orin", "Jetson Orin NX", "Jetson Orin Nano"),
    "sm89": ("RTX 4060", "RTX 4070", "RTX 4080", "RTX 4090", "RTX 4000 Ada", "RTX 6000 Ada", "L4", "L40S"),
    "sm90": ("H100", "H200"),
    "sm110": ("Jetson Thor", "Jetson AGX Thor"),
    "sm120": ("RTX 5060", "RTX 5070", "RTX 5080", "RTX 5090", "RTX PRO 6000 Blackwell"),
    "sm121": ("DGX Spark",),
}
# Words in the driver's GPU names that don't distinguish architectures.
NOISE_WORDS = re.compile(
    r"nvidia|geforce|\b(tesla|laptop|gpu|super|ti|max q|generation|workstation|server|edition|pcie|nvl|sxm\d|"
    r"\d+ ?gb|hbm\d?e?)\b"
)
# Engines for these are built on the device, with JetPack's TensorRT.
MAX_SUGGESTED = 4
JETSON = {"sm72": "Jetson Xavier", "sm87": "Jetson Orin", "sm101": "Jetson Thor", "sm110": "Jetson Thor"}


@dataclass(frozen=True)
class Targets:
    """The requested GPUs.

    Attributes:
        architectures: such as "sm86", to build for here; empty: the backend's default.
        bundles: architectures whose engines are built on the device, from a bundle.
        current: whether to build for this machine's GPU.
    """

    architectures: tuple[str, ...] = ()
    bundles: tuple[str, ...] = ()
    current: bool = False

    @property
    def wants_engine(self) -> bool:
        """Whether an engine is built on this machine."""
        return bool(self.architectures) or self.current or not self.bundles


def parse_targets(names: Sequence[str], here: Sequence[Gpu] = ()) -> Targets:
    """``["sm86", "RTX 4090", "current"]`` to architectures.

    A Jetson's own architecture counts as "current".

    Raises:
        UsageError: a name is unknown.
    """
    own = {gpu.architecture for gpu in here[:1]}
    found = [CURRENT if (word := _architecture(name)) in JETSON and word in own else word for name in names]
    return Targets(
        architectures=tuple(dict.fromkeys(a for a in found if a != CURRENT and a not in JETSON)),
        bundles=tuple(dict.fromkeys(a for a in found if a in JETSON)),
        current=CURRENT in found,
    )


def _architecture(name: str) -> str:
    word = name.strip()
    if word.lower() == CURRENT:
        return CURRENT
    if match := re.fullmatch(r"(?:sm_?)?([0-9]{1,2})\.?([0-9])", word.lower()):
        return f"sm{match[1]}{match[2]}"
    products = {_plain(product): sm for sm, listed in PRODUCTS.items() for product in listed}
    wanted = _plain(word)
    hits = {sm for product, sm in products.items() if product == wanted}
    if hits:
        return hits.pop()
    near = [product for product in products_by_name() if wanted and wanted in _plain(product)][:MAX_SUGGESTED]
    near = near or difflib.get_close_matches(word, products_by_name(), n=3, cutoff=0.6)
    raise UsageError(
        f"--gpu {name}: unknown GPU",
        hint=(f"Is it {' or '.join(near)}? " if near else "")
        + "An architecture always works: sm86 for compute capability 8.6 (developer.nvidia.com/cuda-gpus).",
    )


def products_by_name() -> list[str]:
    """Every product of the table."""
    return [product for products in PRODUCTS.values() for product in products]


def _plain(product: str) -> str:
    """The product without spaces and noise words."""
    word = re.sub(r"[\s_-]+", " ", product.lower())
    return re.sub(r"(\d)ti$", r"\1", re.sub(NOISE_WORDS, "", word).replace(" ", ""))


def resolve(targets: Targets, backend: Backend, here: Sequence[Gpu]) -> tuple[str, ...]:
    """The architectures for one build with this backend; (PORTABLE,) for RTX's default set.

    Raises:
        UsageError: the backend can't build for an architecture.
        RuntimeUnavailableError: it needs this machine's GPU, and there is none.
    """
    own = here[0].architecture if here else None
    if (targets.current or not backend.is_rtx) and own is None:
        raise RuntimeUnavailableError(
            f"{'--gpu current' if targets.current else str(backend)} needs a GPU, and this machine has none",
            hint="Name architectures, such as --gpu sm86, and build with tensorrt-rtx; or build on the device.",
        )
    wanted = list(dict.fromkeys([*targets.architectures, *([own] if targets.current and own else [])]))
    if not backend.is_rtx:
        for architecture in wanted:
            if architecture != own:
                raise UsageError(
                    f"{backend} builds for the GPU of this machine ({own}), not for {architecture}",
                    hint="--backend tensorrt-rtx builds for GPUs by name.",
                )
        return (own,) if own else ()
    for architecture in wanted:
        if architecture not in backend.named_gpus:
            raise UsageError(
                f"{backend} can't build for {architecture}",
                hint=f"It builds for {', '.join(backend.named_gpus)}; leave --gpu out for an engine for all of them "
                "from sm80 on.",
            )
    return tuple(wanted) or (PORTABLE,)
