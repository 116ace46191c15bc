"""How an engine is built: settings, and the plan made from them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attn_export.exporter.engine.backend import AUTO, Backend
from attn_export.exporter.engine.profile import Sizes
from attn_export.exporter.records.engine import BuildOptions, EngineFile, Profile
from attn_export.exporter.records.verdict import Verdict

if TYPE_CHECKING:
    from attn_export.exporter.engine.graph import GraphFacts


@dataclass(frozen=True)
class EngineSettings:
    """How an engine is built.

    Attributes:
        gpus: as typed: architectures, product names, "current"; none: the backend's default.
        backend: "auto", "tensorrt" or "tensorrt-rtx".
        sizes: for the axes that are open.
        opt_batch: N that engines are tuned for where none is asked.
        options: passed through to TensorRT.
        allow_mixed: accept kernels in other types than the graph says; the record names them all the same.
        keep_going: where one of several GPUs can't be built for, build for the others.
        count_ablated: count the kernels of the network without attention as well, which takes a second build.
    """

    gpus: tuple[str, ...] = ()
    backend: str = AUTO
    sizes: Sizes = field(default_factory=Sizes)
    opt_batch: int = 1
    options: BuildOptions = field(default_factory=BuildOptions)
    allow_mixed: bool = False
    keep_going: bool = False
    count_ablated: bool = True


# Runs an engine on this machine's GPU and gives what its record says of that; raises where it computes something else.
Judge = Callable[[EngineFile], Verdict]


@dataclass(frozen=True)
class Plan:
    """What is going to be built, checked as far as that can be done before building.

    Attributes:
        backend: that builds.
        why: it was chosen.
        architectures: as `targets.resolve` gave them.
        facts: of the graph.
        profile: for all of its inputs.
    """

    backend: Backend
    why: str
    architectures: tuple[str, ...]
    facts: "GraphFacts"
    profile: Profile
