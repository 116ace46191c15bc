"""Settings and plan of an engine build."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attn_export.exporter.engine.backend import AUTO, Backend
from attn_export.exporter.engine.profile import Sizes
from attn_export.exporter.records.engine import BuildOptions, Profile

if TYPE_CHECKING:
    from attn_export.exporter.engine.graph import GraphFacts


@dataclass(frozen=True)
class EngineSettings:
    """Settings of an engine build.

    Attributes:
        gpus: architectures, product names, "current"; empty: the backend's default.
        backend: "auto", "tensorrt" or "tensorrt-rtx".
        opt_batch: the opt size of a dynamic N without a requested one.
        allow_mixed: accept kernels in other types than the graph; the record names them.
        keep_going: if the build fails for one of several GPUs, build for the others.
        count_ablated: also count the kernels of the ablated model, which takes a second build.
    """

    gpus: tuple[str, ...] = ()
    backend: str = AUTO
    sizes: Sizes = field(default_factory=Sizes)
    opt_batch: int = 1
    options: BuildOptions = field(default_factory=BuildOptions)
    allow_mixed: bool = False
    keep_going: bool = False
    count_ablated: bool = True


@dataclass(frozen=True)
class Plan:
    """A build, checked as far as possible in advance. ``architectures``: from `targets.resolve`."""

    backend: Backend
    why: str
    architectures: tuple[str, ...]
    facts: "GraphFacts"
    profile: Profile
