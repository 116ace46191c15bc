"""Builds a serialized engine from a graph with any TensorRT.

Networks are strongly typed: the graph alone decides the types. One object holds all parts of a build until its end,
because TensorRT's parser doesn't keep its network alive, nor the network its builder.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attn_export.exporter.engine.backend import Backend
from attn_export.exporter.engine.log import Log, uncollected
from attn_export.exporter.engine.profile import add_profile
from attn_export.exporter.engine.quantization import unmet_demands
from attn_export.exporter.errors import EngineError, RuntimeUnavailableError, UsageError
from attn_export.exporter.records.engine import PORTABLE, BuildOptions, Profile
from attn_export.exporter.system.memory import PeakMemory
from attn_export.exporter.system.progress import Advance

MIB = 2**20
# How often the waiting main thread checks for Ctrl-C.
POLL_SECONDS = 0.05
SHOWN_PROBLEMS = 20


@dataclass(frozen=True)
class Built:
    """The result of a build.

    Attributes:
        seconds: of parsing and building.
        peak_bytes: this process's peak memory meanwhile, None if unknown.
    """

    plan: memoryview
    log: Log
    seconds: float
    peak_bytes: int | None


def check_options(options: BuildOptions, backend: Backend) -> None:
    """Refuse options that the backend doesn't have. Raises UsageError: names the option and the reason."""
    if options.workspace_mib is not None and options.workspace_mib < 1:
        raise UsageError(
            f"--workspace {options.workspace_mib} is not a memory size", hint="Give a number of MiB, at least 1."
        )
    if not backend.is_rtx:
        return
    reasons = {
        "--timing-cache": (options.timing_cache, "it measures no kernels during the build"),
        "--version-compatible": (options.version_compatible, "every version of TensorRT-RTX needs its own engine"),
        "--hardware-compatible": (options.hardware_compatible, "name all architectures with --gpu instead"),
    }
    for option, (value, reason) in reasons.items():
        if value:
            raise UsageError(f"{backend} has no {option}: {reason}", hint="Leave it out, or use --backend tensorrt.")


def build(
    backend: Backend,
    path: Path,
    profile: Profile,
    architectures: tuple[str, ...],
    options: BuildOptions,
    *,
    modules: Mapping[str, str] | None = None,
    advance: Advance = lambda _: None,
) -> Built:
    """Build one engine. Ctrl-C stops it at TensorRT's next step.

    ``modules`` names the module path of each node for messages; ``advance`` receives the finished share, 0..1.

    Raises:
        EngineError: TensorRT can't parse or build the graph; ``problems`` has all its errors.
        UsageError: it rejects the profile.
    """
    started = time.perf_counter()
    with PeakMemory() as memory:
        build = _Build(backend, options)
        try:
            build.parse(path, modules or {})
            add_profile(build.builder, build.config, profile)
            build.set_architectures(architectures)
            plan = build.run(advance)
            if options.timing_cache is not None:
                build.write_timing_cache(options.timing_cache)
        finally:
            build.release()
    advance(1.0)
    return Built(memoryview(plan), build.log, time.perf_counter() - started, memory.bytes)


class _Build:
    """Logger, builder, network, parser and config of one build; all must live until its end."""

    def __init__(self, backend: Backend, options: BuildOptions) -> None:
        trt = backend.trt
        self.trt = trt
        self.name = str(backend)
        self.log = Log()
        self.logger = self.log.logger(trt)
        try:
            with uncollected():
                self.builder = trt.Builder(self.logger)
        except TypeError as error:  # raised by the bindings if no builder can be created
            raise RuntimeUnavailableError(
                f"{backend} can't build here: {(self.log.errors or ['it gives no reason'])[0]}",
                hint="It needs a GPU and a recent driver; --backend tensorrt-rtx needs neither.",
            ) from error
        # The flag's value differs between versions. TensorRT 11 and RTX have no other networks.
        self.network = self.builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        self.parser = trt.OnnxParser(self.network, self.logger)
        self.config = self.builder.create_builder_config()
        self.config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        # One stream: the parallel branches of a gate are too small for synchronization to pay off.
        self.config.max_aux_streams = 0
        flags = {trt.BuilderFlag.TF32: options.tf32, trt.BuilderFlag.VERSION_COMPATIBLE: options.version_compatible}
        for flag, is_set in flags.items():
            (self.config.set_flag if is_set else self.config.clear_flag)(flag)
        if options.workspace_mib is not None:
            self.config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib * MIB)
        if options.hardware_compatible:
            self.config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
        if options.timing_cache is not None:
            known = _timings(options.timing_cache)
            self.config.set_timing_cache(self.config.create_timing_cache(known), False)

    def release(self) -> None:
        """Free TensorRT's objects now; an error's traceback would keep them."""
        del self.parser, self.network, self.config, self.builder

    def parse(self, path: Path, modules: Mapping[str, str]) -> None:
        """Parse the graph. Raises EngineError: with all of the parser's errors."""
        if self.parser.parse_from_file(str(path)):
            return
        problems = [self._problem(self.parser.get_error(i), modules) for i in range(self.parser.num_errors)]
        problems = list(dict.fromkeys(problems)) or self.log.errors
        shown = [*problems[:SHOWN_PROBLEMS], *(["…"] if len(problems) > SHOWN_PROBLEMS else [])]
        raise EngineError(
            f"{self.name} can't parse {path.name}:" + "".join(f"\n  {problem}" for problem in shown),
            hint=" ".join(unmet_demands(path))
            or "Replace these operators by ones that TensorRT supports, or run the ONNX file in ONNX Runtime. "
            "Supported operators: https://github.com/onnx/onnx-tensorrt/blob/main/docs/operators.md",
        )

    def _problem(self, error: Any, modules: Mapping[str, str]) -> str:
        """The operator, node, module and message of a parser error."""
        code = str(error.code()).rpartition(".")[2].rpartition("_NODE")[0].replace("_", " ").lower()
        message = error.desc().strip().partition("\n")[0]
        if not error.node_operator():
            return message
        module = modules.get(error.node_name(), "")
        place = f"node {error.node_name()!r}" + (f" of {module}" if module else "")
        message = "" if message == "false" else message  # the parser's message for an unknown operator
        return f"{error.node_operator()} ({place}): " + (message or f"{code or 'unsupported'} operator")

    def set_architectures(self, architectures: tuple[str, ...]) -> None:
        """Name the GPUs, if the backend builds for GPUs by name."""
        named = [a for a in architectures if a != PORTABLE] if hasattr(self.config, "num_compute_capabilities") else []
        if named:
            self.config.num_compute_capabilities = len(named)
            for index, architecture in enumerate(named):
                self.config.set_compute_capability(getattr(self.trt.ComputeCapability, architecture.upper()), index)

    def run(self, advance: Advance) -> Any:
        """Build in another thread, so that this one receives Ctrl-C. Raises EngineError: with TensorRT's errors."""
        cancelled, finished = threading.Event(), threading.Event()
        plans: list[Any] = []
        raised: list[BaseException] = []

        def work() -> None:
            try:
                plans.append(self.builder.build_serialized_network(self.network, self.config))
            except Exception as error:  # noqa: BLE001 - raised again in the waiting thread
                raised.append(error)
            finally:
                finished.set()

        self.config.progress_monitor = _monitor(self.trt, advance, cancelled, raised)
        with _interrupts(cancelled) as interrupted:
            threading.Thread(target=work, daemon=True).start()
            while not finished.wait(POLL_SECONDS):
                pass
        if interrupted.is_set():
            raise KeyboardInterrupt
        if raised:
            raise raised[0]
        if not plans or plans[0] is None:
            problems = self.log.errors
            raise EngineError(
                f"{self.name} can't build an engine: {problems[0] if problems else 'it gives no reason'}",
                hint=_advice(problems),
            )
        return plans[0]

    def write_timing_cache(self, path: Path) -> None:
        from attn_export.exporter.system.scratch import written_atomically

        with written_atomically(path) as temporary:
            temporary.write_bytes(memoryview(self.config.get_timing_cache().serialize()))


def _timings(path: Path) -> bytes:
    """The content of a timing cache, empty if there is none yet."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise UsageError(
            f"the timing cache {path} can't be read: {error.strerror or error}", hint="Name a file, or leave it out."
        ) from error


ADVICE = {
    "dimensions with this name": "TensorRT takes axes of one name to be equal. Where the name is a placeholder such as "
    '"?", attn-export clean drops it; build from its result.',
    "FP32 GEMM is not supported": "TensorRT-RTX has no float32 matrix products for Turing (sm75): use --precision fp16 "
    "or leave sm75 out.",
    "HW-specific datatypes": "One of the GPUs lacks a type of the graph (fp8 needs sm89, bf16 sm80): leave it out, or "
    "use another precision.",
    "optimization profile": "Give sizes for the dynamic axes: --profile-batch 1,8,32 and --size 224x224.",
    "out of memory": "Take a smaller --profile-batch or --workspace.",
    "bad_alloc": "A file gets 1.25 GiB and 32 bytes for each of its bytes; `ulimit -v` may leave less.",
    "OutOfMemory": "Take a smaller --profile-batch or --workspace.",
}


def _advice(problems: list[str]) -> str:
    text = " ".join(problems)
    others = (
        f"Other errors: {'; '.join(problems[1:SHOWN_PROBLEMS])}." if problems[1:] else "There were no other errors."
    )
    return next((advice for sign, advice in ADVICE.items() if sign in text), others)


@contextmanager
def _interrupts(cancelled: threading.Event) -> Iterator[threading.Event]:
    """Within the context, Ctrl-C (or another interrupting signal) sets ``cancelled`` and raises nothing.

    TensorRT must have left its thread first; otherwise the process crashes at exit. Only handlers in Python are
    replaced, and only in the main thread.
    """
    interrupted = threading.Event()

    def cancel(*_: object) -> None:
        interrupted.set()
        cancelled.set()

    is_main = threading.current_thread() is threading.main_thread()
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    replaced = {n: handler for n in numbers if is_main and callable(handler := signal.getsignal(n))}
    for number in replaced:
        signal.signal(number, cancel)
    try:
        yield interrupted
    finally:
        for number, handler in replaced.items():
            signal.signal(number, handler)


def _monitor(trt: Any, advance: Advance, cancelled: threading.Event, raised: list[BaseException]) -> Any:
    """A progress monitor that reports the finished share of the outermost phase, nested phases included.

    An exception from ``advance`` cancels the build and is appended to ``raised``.
    """
    phases: dict[str, tuple[str | None, int, int]] = {}
    last = 0.0

    def share(name: str) -> float:
        _, total, done = phases[name]
        inside = max((share(n) for n, (parent, _, _) in phases.items() if parent == name), default=0.0)
        return min(1.0, (done + inside) / max(total, 1))

    def start(monitor: Any) -> None:
        trt.IProgressMonitor.__init__(monitor)

    def phase_start(_: Any, name: str, parent: str | None, steps: int) -> None:
        phases[name] = (parent, steps, 0)

    def step_complete(_: Any, name: str, step: int) -> bool:
        nonlocal last
        if name in phases:
            parent, total, _done = phases[name]
            phases[name] = (parent, total, step + 1)
        roots = [n for n, (parent, _, _) in phases.items() if parent is None]
        last = max(last, share(roots[0]) if roots else 0.0)
        try:
            advance(last)
        except BaseException as error:  # noqa: BLE001 - TensorRT would print it
            raised.append(error)
            cancelled.set()
        return not cancelled.is_set()

    def phase_finish(_: Any, name: str) -> None:
        phases.pop(name, None)

    methods: dict[str, Callable[..., Any]] = {
        "__init__": start,
        "phase_start": phase_start,
        "step_complete": step_complete,
        "phase_finish": phase_finish,
    }
    return type("Monitor", (trt.IProgressMonitor,), methods)()
