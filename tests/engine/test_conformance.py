"""Whether the code touches only what every supported TensorRT has.

`api_surface.json` holds the public names of the classes that are touched, as the real Python bindings of four versions
have them: tensorrt 10.3.0 (JetPack 6), 10.16.1.11 (the last 10), 11.4.0.106, and tensorrt_rtx 1.7.1.116. They were
read from the imported modules, which works on a machine without a GPU; nothing was built with the first three.

The code is read, not run: types are followed from the module through what its functions return, and every attribute of
a TensorRT object is looked up in all four. What only some have is listed here with the versions that have it, and has
to stand behind a guard in the same function. A receiver whose type isn't known fails too. A real build through a
recording proxy shows that following types misses nothing.
"""

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import pytest

from attn_export.exporter.engine.backend import Backend
from attn_export.exporter.engine.build import build
from attn_export.exporter.errors import EngineError
from attn_export.exporter.records.engine import BuildOptions, Range
from tests.runtimes.standin import network

ROOT = Path(__file__).resolve().parents[2]
SURFACE: dict[str, dict[str, list[str]]] = json.loads(
    Path(__file__).with_name("api_surface.json").read_text(encoding="utf-8")
)
VERSIONS = ("tensorrt 10.3.0", "tensorrt 10.16.1.11", "tensorrt 11.4.0.106", "tensorrt_rtx 1.7.1.116")
FILES = (
    *sorted((ROOT / "exporter" / "engine").glob("*.py")),
    ROOT / "exporter" / "runtimes" / "tensorrt.py",
)

# What isn't in all four, and where it is. Every use needs a guard: hasattr or getattr of that name, or is_rtx.
RTX = VERSIONS[3:]
SINCE_10_11 = VERSIONS[1:]
GUARDED: dict[tuple[str, str], tuple[str, ...]] = {
    ("module", "ComputeCapability"): RTX,
    ("ComputeCapability", "*"): RTX,
    ("IBuilderConfig", "num_compute_capabilities"): RTX,
    ("IBuilderConfig", "set_compute_capability"): RTX,
    ("Runtime", "get_engine_validity"): RTX,
    ("module", "EngineValidity"): RTX,
    ("EngineValidity", "INVALID"): RTX,
    ("module", "EngineInvalidityDiagnostics"): RTX,
    ("ICudaEngine", "create_runtime_config"): SINCE_10_11,
    ("IRuntimeConfig", "cuda_graph_strategy"): RTX,
    ("IRuntimeConfig", "dynamic_shapes_kernel_specialization_strategy"): RTX,
    ("module", "CudaGraphStrategy"): RTX,
    ("CudaGraphStrategy", "WHOLE_GRAPH_CAPTURE"): RTX,
    ("module", "DynamicShapesKernelSpecializationStrategy"): RTX,
    ("DynamicShapesKernelSpecializationStrategy", "EAGER"): RTX,
}
# Functions that are called behind the guard of their caller.
GUARDED_BY_CALLER = {"tensorrt.py:_validity": "_validity(backend, self._runtime, plan) if backend.is_rtx"}

# What TensorRT's functions return; "plain" is Python's own. What isn't here may be passed on, and not looked into.
RESULTS = {
    "Builder.create_network": "INetworkDefinition",
    "Builder.create_builder_config": "IBuilderConfig",
    "Builder.create_optimization_profile": "IOptimizationProfile",
    "Builder.build_serialized_network": "IHostMemory",
    "OnnxParser.get_error": "ParserError",
    "IBuilderConfig.create_timing_cache": "ITimingCache",
    "IBuilderConfig.get_timing_cache": "ITimingCache",
    "ITimingCache.serialize": "IHostMemory",
    "Runtime.deserialize_cuda_engine": "ICudaEngine",
    "ICudaEngine.create_engine_inspector": "EngineInspector",
    "ICudaEngine.create_runtime_config": "IRuntimeConfig",
    "ICudaEngine.create_execution_context": "IExecutionContext",
    "ParserError.desc": "plain",
    "EngineInspector.get_engine_information": "plain",
}
# Parameters of type Any that are TensorRT's, by file and function. Others may be passed on, and not looked into.
PARAMETERS = {
    "build.py:_problem:error": "ParserError",
    "build.py:_monitor:trt": "module",
    "log.py:logger:trt": "module",
    "profile.py:add_profile:builder": "Builder",
    "profile.py:add_profile:config": "IBuilderConfig",
    "tensorrt.py:_validity:runtime": "Runtime",
    "kernels.py:_listed:owner": "plain",  # of the JSON that the inspector gives
}
GIVES_BACK = {"_created"}  # returns its first argument


@dataclass(frozen=True)
class Use:
    """One attribute of a TensorRT object."""

    kind: str
    name: str
    place: str
    guards: str = ""


@dataclass
class Scope:
    """A function or class body, and the types of its names."""

    file: str
    name: str
    types: dict[str, str] = field(default_factory=dict)
    anys: set[str] = field(default_factory=set)


class Reader:
    """Follows TensorRT's types through one file, without regard to the order of statements."""

    def __init__(self, file: str, source: str) -> None:
        self.file, self.tree = file, ast.parse(source)
        self.functions: dict[str, str] = {}
        self.attributes: dict[str, str] = {}  # self.<name>, over all classes of the file
        self.any_attributes: set[str] = set()
        self.uses: list[Use] = []
        self.complaints: list[str] = []
        for _ in range(4):  # until nothing new is learned: chains of assignments are short
            self.uses, self.complaints = [], []
            self._scope(self.tree, Scope(file, ""))

    def _scope(self, root: ast.AST, scope: Scope) -> None:
        own = list(_own_nodes(root))
        for _ in range(3):
            for node in own:
                self._learn(node, scope)
        guards = ast.unparse(root)
        for node in own:
            self._look(node, scope, guards)
        for node in own:
            if isinstance(node, ast.FunctionDef):
                self._function(node, scope)
            elif isinstance(node, ast.ClassDef):
                self._scope(node, Scope(self.file, node.name))

    def _function(self, node: ast.FunctionDef, outer: Scope) -> None:
        inner = Scope(self.file, node.name, dict(outer.types), set(outer.anys))
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        for argument in arguments:
            inner.types.pop(argument.arg, None)
            if argument.annotation is None or ast.unparse(argument.annotation) != "Any":
                continue
            key = f"{self.file}:{node.name}:{argument.arg}"
            if key in PARAMETERS:
                inner.types[argument.arg] = PARAMETERS[key]
            else:
                inner.anys.add(argument.arg)
        self._scope(node, inner)
        for child in _own_nodes(node):
            if isinstance(child, ast.Return) and child.value is not None and (kind := self.type_of(child.value, inner)):
                self.functions[node.name] = kind

    def _learn(self, node: ast.AST, scope: Scope) -> None:
        if isinstance(node, ast.AnnAssign):
            if ast.unparse(node.annotation) == "Any":
                if isinstance(node.target, ast.Name):
                    scope.anys.add(node.target.id)
                elif isinstance(node.target, ast.Attribute):
                    self.any_attributes.add(node.target.attr)
            if node.value is not None:
                self._assign(node.target, node.value, scope)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self._assign(target, node.value, scope)
        elif isinstance(node, ast.NamedExpr):
            self._assign(node.target, node.value, scope)

    def _assign(self, target: ast.expr, value: ast.expr, scope: Scope) -> None:
        if isinstance(target, ast.Tuple):
            if isinstance(value, ast.Tuple):
                for one, other in zip(target.elts, value.elts, strict=True):
                    self._assign(one, other, scope)
            return
        kind = self.type_of(value, scope)
        if not kind:
            return
        if isinstance(target, ast.Name):
            scope.types[target.id] = kind
        elif isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
            self.attributes[target.attr] = kind

    def type_of(self, node: ast.expr, scope: Scope) -> str:
        """A class of TensorRT, "module", "class X", "X.method", "unknown …", "plain"; empty for anything else."""
        if isinstance(node, ast.Name):
            return scope.types.get(node.id, "")
        if isinstance(node, ast.IfExp):
            return self.type_of(node.body, scope) or self.type_of(node.orelse, scope)
        if isinstance(node, ast.Attribute):
            return self._attribute(node, scope)
        if isinstance(node, ast.Call):
            return self._result(node, scope)
        return ""

    def _attribute(self, node: ast.Attribute, scope: Scope) -> str:
        of = self.type_of(node.value, scope)
        if of == "module":
            return f"class {node.attr}"
        if of.startswith("class ") or of in ("plain", "member"):
            return "member" if of.startswith("class ") else "plain"
        if of:
            return f"{of}.{node.attr}"
        if node.attr == "trt":
            return "module"
        return self.attributes.get(node.attr, "") if ast.unparse(node.value) == "self" else ""

    def _result(self, node: ast.Call, scope: Scope) -> str:
        called = ast.unparse(node.func)
        if called == "getattr" and self.type_of(node.args[0], scope) == "module":
            return f"class {ast.literal_eval(node.args[1])}"
        if called.removeprefix("self.") in GIVES_BACK:
            return self.type_of(node.args[0], scope)
        of = self.type_of(node.func, scope)
        if of.startswith("class "):
            return of.removeprefix("class ")
        if of:
            return RESULTS.get(of, "plain" if of == "plain" else f"unknown result of {of}")
        return self.functions.get(called.removeprefix("self."), "")

    def _look(self, node: ast.AST, scope: Scope, guards: str) -> None:
        place = f"{self.file}:{getattr(node, 'lineno', 0)} in {scope.name}"
        if isinstance(node, ast.Attribute):
            of = self.type_of(node.value, scope)
            if of.startswith("unknown") or ("." in of and not node.attr.startswith("__")):
                self.complaints.append(f"{place}: .{node.attr} of {of}: say in RESULTS what it is")
            elif of not in ("", "plain", "member") and not node.attr.startswith("__"):
                self._use(of, node.attr, place, guards, scope)
            elif not of and self._is_any(node.value, scope):
                self.complaints.append(
                    f"{place}: .{node.attr} of {ast.unparse(node.value)}, whose type isn't known: PARAMETERS?"
                )
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "hasattr"):
            of = self.type_of(node.args[0], scope)
            literal = isinstance(node.args[1], ast.Constant)
            if of and of != "plain":
                self._use(of, node.args[1].value if literal else "*", place, guards, scope)  # type: ignore[attr-defined]

    def _use(self, of: str, name: str, place: str, guards: str, scope: Scope) -> None:
        caller = GUARDED_BY_CALLER.get(f"{self.file}:{scope.name}", "")
        if caller and caller in ast.unparse(self.tree):
            guards += " is_rtx"
        self.uses.append(Use(of.removeprefix("class "), str(name), place, guards))

    def _is_any(self, node: ast.expr, scope: Scope) -> bool:
        if isinstance(node, ast.Name):
            return node.id in scope.anys
        own = isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self"
        return own and node.attr in self.any_attributes  # type: ignore[attr-defined]


def _own_nodes(root: ast.AST) -> Iterator[ast.AST]:
    """All that stands in a scope, functions and classes inside of it as one node each."""
    for child in ast.iter_child_nodes(root):
        yield child
        if not isinstance(child, ast.FunctionDef | ast.ClassDef):
            yield from _own_nodes(child)


def versions_with(kind: str, name: str) -> tuple[str, ...]:
    if name == "*":
        return tuple(v for v in VERSIONS if kind in SURFACE[v])
    return tuple(v for v in VERSIONS if name in SURFACE[v].get(kind, ()))


def complaints(sources: dict[str, str]) -> list[str]:
    """Everything that not every TensorRT has and no guard stands before, and everything that isn't understood."""
    found = []
    for file, source in sources.items():
        reader = Reader(file, source)
        found += reader.complaints
        for use in reader.uses:
            having = versions_with(use.kind, use.name)
            if having == VERSIONS:
                continue
            said = f"{use.place}: {use.kind}.{use.name} is in {', '.join(having) or 'none'} only"
            if GUARDED.get((use.kind, use.name)) != having:
                found.append(said)
            elif not any(
                guard in use.guards for guard in ("is_rtx", f"'{use.name}'", "hasattr(self.config, 'num_comp")
            ):
                found.append(f"{said}, and no guard stands before it")
    return found


def sources() -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in FILES}


def all_uses() -> set[tuple[str, str]]:
    return {(use.kind, use.name) for file, source in sources().items() for use in Reader(file, source).uses}


def test_the_code_touches_only_what_every_tensorrt_has() -> None:
    assert complaints(sources()) == []


def test_following_types_finds_the_heart_of_it() -> None:
    """A reader that finds nothing would agree with everything."""
    assert {
        ("module", "Builder"),
        ("NetworkDefinitionCreationFlag", "STRONGLY_TYPED"),
        ("Builder", "build_serialized_network"),
        ("IBuilderConfig", "progress_monitor"),
        ("IOptimizationProfile", "set_shape"),
        ("OnnxParser", "parse_from_file"),
        ("ParserError", "node_operator"),
        ("EngineInspector", "get_engine_information"),
        ("ITimingCache", "serialize"),
        ("Runtime", "deserialize_cuda_engine"),
        ("ICudaEngine", "get_tensor_dtype"),
        ("IExecutionContext", "execute_async_v3"),
        ("IRuntimeConfig", "cuda_graph_strategy"),
        ("TensorIOMode", "INPUT"),
    } <= all_uses()


def test_the_list_of_exceptions_holds_nothing_that_is_not_used() -> None:
    assert set(GUARDED) <= all_uses()
    assert {key: versions_with(*key) for key in GUARDED} == GUARDED


def test_the_surface_holds_what_is_touched_and_no_more() -> None:
    kinds = {kind for kind, _ in all_uses()}
    assert tuple(SURFACE) == VERSIONS
    assert {kind for version in SURFACE.values() for kind in version} == kinds


LINE = "self.config.max_aux_streams = 0"
ADDED = {
    "removed in 11": ("self.config.set_flag(trt.BuilderFlag.FP16)", "BuilderFlag.FP16 is in tensorrt 10.3.0, tensorrt"),
    "calibrators": ("self.config.int8_calibrator = None", "IBuilderConfig.int8_calibrator is in tensorrt 10.3.0, t"),
    "through a name": (
        "c = self.config\n        c.algorithm_selector",
        "IBuilderConfig.algorithm_selector is in tenso",
    ),
    "newer": ("self.parser.set_builder_config(self.config)", "OnnxParser.set_builder_config is in tensorrt 10.16"),
    "invented": ("self.builder.make_it_fast()", "Builder.make_it_fast is in none only"),
    "no guard": ("self.config.num_compute_capabilities = 1", "and no guard stands before it"),
    "of a result": ("self.network.get_input(0).dtype", "say in RESULTS what it is"),
    "unknown": ("x: Any = some()\n        x.run()", "x, whose type isn't known"),
}


@pytest.mark.parametrize("added", ADDED)
def test_an_addition_that_not_every_version_has_is_found(added: str) -> None:
    line, words = ADDED[added]
    source = sources()["build.py"]
    assert LINE in source
    found = complaints({"build.py": source.replace(LINE, line)})
    assert any(words in complaint for complaint in found), found


def test_a_parameter_of_any_type_has_to_be_explained() -> None:
    (found,) = complaints({"build.py": "def f(thing: Any) -> None:\n    thing.run()\n"})
    assert found == "build.py:2 in f: .run of thing, whose type isn't known: PARAMETERS?"


# The real tensorrt_rtx, watched.


class Watched:
    """A TensorRT object that writes down which of its attributes are touched."""

    def __init__(self, real: Any, kind: str, seen: set[tuple[str, str]]) -> None:
        self.__dict__.update(_real=real, _kind=kind, _seen=seen)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._real, name)
        if not name.startswith("__"):
            self._seen.add((self._kind, name))
        if self._kind == "module" and name in ("ILogger", "IProgressMonitor"):
            return value  # they are subclassed
        if isinstance(value, type):
            return Watched(value, name, self._seen)
        return self._watched(value)

    def __setattr__(self, name: str, value: Any) -> None:
        self._seen.add((self._kind, name))
        setattr(self._real, name, unwatched(value))

    def __call__(self, *args: Any) -> Any:
        return self._watched(self._real(*(unwatched(arg) for arg in args)))

    def _watched(self, value: Any) -> Any:
        kind = type(value).__name__
        if callable(value) and not isinstance(value, type):
            return lambda *args: self._watched(value(*(unwatched(arg) for arg in args)))
        is_bound = type(value).__module__.startswith("tensorrt_rtx") and not hasattr(type(value), "__members__")
        return Watched(value, kind, self._seen) if is_bound and kind != "IHostMemory" else value


def unwatched(value: Any) -> Any:
    return value.__dict__["_real"] if isinstance(value, Watched) else value


def test_a_real_build_touches_nothing_that_was_not_found(tmp_path: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    seen: set[tuple[str, str]] = set()
    backend = Backend("tensorrt-rtx", Watched(trt, "module", seen))
    onnx.save(network(), tmp_path / "good.onnx")
    profile = {"input": Range((1, 3, 12, 12), (1, 3, 12, 12), (2, 3, 12, 12))}
    built = build(backend, tmp_path / "good.onnx", profile, ("sm86",), BuildOptions(workspace_mib=64))
    assert built.plan.nbytes > 0
    bad = network()
    bad.graph.node[0].op_type = "Unheard"
    onnx.save(bad, tmp_path / "bad.onnx")
    with pytest.raises(EngineError):
        build(backend, tmp_path / "bad.onnx", profile, ("sm86",), BuildOptions())
    assert ("ParserError", "node_operator") in seen
    assert ("IBuilderConfig", "set_compute_capability") in seen
    found = {kind if name == "*" else (kind, name) for kind, name in all_uses()}
    assert {use for use in seen if use not in found and use[0] not in found} == set()
