"""Makes a module of a program of torch.export, after checking that nothing in it has to be trusted."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import IO, Any

import msgspec
import torch

from attn_export.exporter.artifacts import INPUT_NAME, Input
from attn_export.exporter.checkpoint.exported.archive import Archive, read_archive
from attn_export.exporter.checkpoint.exported.arguments import DTYPES, known, name_of, value_of
from attn_export.exporter.checkpoint.exported.memory import check_memory
from attn_export.exporter.checkpoint.exported.network import (
    Call,
    Interface,
    Part,
    ProgramNetwork,
    Ref,
    Subgraph,
    Values,
    keys_of,
    references,
)
from attn_export.exporter.checkpoint.exported.operators import operator_of
from attn_export.exporter.checkpoint.exported.schema import (
    Argument,
    Graph,
    GraphModule,
    NamedArgument,
    Node,
    TreeSpec,
    entry_of,
)
from attn_export.exporter.checkpoint.exported.unsafe import Unsafe, Unusable

NO_GRAD = "torch.ops.higher_order.wrap_with_set_grad_enabled"
POSITIONAL = 1
CONTAINERS = ("builtins.dict", "builtins.list", "builtins.tuple", "collections.OrderedDict")
# Kinds of inputs that are the network's own, and where their names in it stand.
STATE = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}
DEEPEST, MOST_NODES = 100, 10_000
YES = {"as_bool": True}
# Names of modules may have hyphens, as in torchvision's RegNet.
PATH = re.compile(r"([^.\x00-\x20]+(\.[^.\x00-\x20]+)*)?")
Step = Callable[[Values], Any]


def read_network(stream: IO[bytes], size: int) -> tuple[ProgramNetwork, tuple[Input, ...], bool]:
    """The network of a program in eval mode, its inputs as it was exported with them, and whether their batch is fixed.

    Raises:
        Unsafe: the archive holds something that isn't data, or that isn't understood here.
        Unusable: it was exported for training, or asks for too much memory.
        Exception: of many types, it is damaged.
    """
    archive = read_archive(stream, size)
    module = archive.document.graph_module
    if (count := len(module.graph.nodes)) > MOST_NODES:
        raise Unsafe(f"it has {count:,} nodes, and {MOST_NODES:,} are the limit")
    interface = _interface(module)
    inputs = tuple(_inputs(module, interface))
    first_sizes = [module.graph.tensor_values[name].sizes[:1] for name in interface.inputs]
    fixed = all(size.as_expr is None for sizes in first_sizes for size in sizes)
    network = ProgramNetwork(interface, inputs, fixed=fixed)
    for full_name in dict.fromkeys(interface.state.values()):
        _register(network, archive, full_name)
    kept = frozenset(chain(interface.state, references(list(interface.outputs))))
    steps = list(_steps(module.graph, frozenset(interface.state), network))
    _check_order(steps, {*interface.state, *interface.constants, *interface.inputs}, kept)
    _assemble(network, _with_ends(steps, kept))
    check_memory(network.eval(), inputs)
    return network, inputs, fixed


@dataclass(frozen=True)
class Placed:
    """A call, and the modules that it stands in: key and path of each, from the outermost."""

    call: Call
    stack: tuple[tuple[str, str], ...]


def _interface(module: GraphModule) -> Interface:
    state: dict[str, str] = {}
    constants: dict[str, Any] = {}
    inputs = []
    for spec, argument in zip(module.signature.input_specs, module.graph.inputs, strict=True):
        kind, value = entry_of(spec)
        if kind in STATE:
            state[value["arg"]["name"]] = value[STATE[kind]]
        elif kind == "constant_input":
            constants[value["name"]] = value_of(value["value"])
        elif kind != "user_input":
            raise Unsafe(f"it takes a {kind}")
        elif "as_tensor" in argument:
            inputs.append(str(argument["as_tensor"]["name"]))
        elif (name := name_of(argument)) is not None:
            raise Unsafe(f"its input {name} isn't a tensor")
    outputs = tuple(_outputs(module))
    return Interface(tuple(inputs), state, constants, outputs, _structure(module, len(outputs)))


def _outputs(module: GraphModule) -> Iterator[Any]:
    for spec in module.signature.output_specs:
        kind, value = entry_of(spec)
        if kind != "user_output":
            raise Unusable(f"changes its own weights or inputs ({kind}), as in training")
        name = name_of(value["arg"])
        yield value_of(value["arg"]) if name is None else Ref(name)


def _structure(module: GraphModule, outputs: int) -> TreeSpec:
    """The structure of the outputs."""
    signature = next(call.signature for call in module.module_call_graph if call.fqn == "")
    if signature is None:
        raise ValueError("the network has no signature")
    _, spec = msgspec.json.decode(signature.out_spec, type=tuple[int, TreeSpec])
    leaves, waiting = 0, [spec]
    while waiting:
        found = waiting.pop()
        leaves += found.type is None
        waiting.extend(found.children_spec)
        keys = keys_of(found) if found.type is not None else None
        names_fit = keys is None or (isinstance(keys, list) and len(keys) == len(found.children_spec))
        if not names_fit or (found.type not in (None, *CONTAINERS) and keys is None):
            raise Unsafe(f"it returns a {found.type}")
    if leaves != outputs:
        raise ValueError(f"the network returns {outputs} values in a structure of {leaves}")
    return spec


def _register(network: ProgramNetwork, archive: Archive, full_name: str) -> None:
    """Put a weight, buffer or constant where the original had it."""
    if not PATH.fullmatch(full_name):
        raise ValueError(f"{full_name!r} is no name of a weight")
    owner, _, name = full_name.rpartition(".")
    tensor = archive.state[full_name]
    if full_name in archive.parameters:
        network.part_at(owner).register_parameter(name, torch.nn.Parameter(tensor, requires_grad=False))
    else:
        network.part_at(owner).register_buffer(name, tensor)


def _steps(graph: Graph, state: frozenset[str], network: ProgramNetwork) -> Iterator[Placed]:
    """The calls of a graph; assertions of sizes are left out."""
    stack: tuple[tuple[str, str], ...] = ()
    for node in graph.nodes:
        stack = _stack(node) or stack
        function = _no_grad(node, state, network) if node.target == NO_GRAD else operator_of(node.target)
        if function is None:
            continue
        given = node.inputs if node.target != NO_GRAD else node.inputs[2:]
        _refuse_training(node, state)
        args = tuple(value_of(found.arg) for found in given if _by_position(found))
        kwargs = {found.name: value_of(found.arg) for found in given if not _by_position(found)}
        results = _results(node, isinstance(function, Subgraph))
        yield Placed(Call(function, args, kwargs, results), stack)


def _by_position(argument: NamedArgument) -> bool:
    return argument.kind == POSITIONAL or not argument.name


def _stack(node: Node) -> tuple[tuple[str, str], ...]:
    """Key and path of each module around a call, from "key,path,class;..."; keys tell two calls of a module apart.

    Empty where the exporter didn't write one, as for sizes that it reads off the inputs.
    """
    entries = [entry.split(",", 2) for entry in node.metadata.get("nn_module_stack", "").split(";")]
    if not all(len(entry) == 3 and PATH.fullmatch(entry[1]) for entry in entries) or entries[0][1]:
        return ()
    if len(entries) > DEEPEST:
        raise Unsafe(f"a module is {len(entries)} levels deep")
    return tuple((entry[0], entry[1]) for entry in entries)


def _no_grad(node: Node, state: frozenset[str], network: ProgramNetwork) -> Subgraph:
    kind, inner = entry_of(node.inputs[1].arg)
    if kind != "as_graph":
        raise Unsafe(f"it calls {NO_GRAD} without a graph")
    graph = msgspec.convert(inner["graph"], Graph)
    inputs = tuple(str(argument["as_tensor"]["name"]) if "as_tensor" in argument else "" for argument in graph.inputs)
    outputs = tuple(value_of(argument) for argument in graph.outputs)
    calls = [placed.call for placed in _steps(graph, state, network)]
    return Subgraph(tuple(calls), inputs, outputs)


def _refuse_training(node: Node, state: frozenset[str]) -> None:
    """Refuse what only training does."""
    given = {found.name: found.arg for found in node.inputs}
    updates = given.get("training") == YES and "as_tensor" in given.get("running_mean", {})
    target = node.target.split(".")[3:4] or [""]
    first = next(iter(given.values()), {}).get("as_tensor", {})
    writes = target[0].endswith("_") and first.get("name") in state
    if updates or given.get("train") == YES or writes:
        raise Unusable("changes its own weights or buffers, as in training")


def _results(node: Node, several: bool) -> Any:
    """The names of what a node computes; see `Call`."""
    outputs = [_names(output) for output in node.outputs]
    if several:
        return tuple(outputs)
    return (outputs[0] if outputs else None) if len(outputs) < 2 else tuple(outputs)


def _names(output: Argument) -> Any:
    kind, value = entry_of(output)
    return tuple(str(entry["name"]) for entry in value) if kind == "as_tensors" else name_of(output)


def _with_ends(steps: Sequence[Placed], kept: frozenset[str]) -> list[Placed]:
    """The calls with the names that nobody uses afterwards."""
    seen, ended = set(kept), []
    for placed in reversed(steps):
        given = references([*placed.call.args, *placed.call.kwargs.values()])
        used = chain(given, _flat(placed.call.results))
        last = tuple(dict.fromkeys(name for name in used if name not in seen))
        seen.update(last)
        ended.append(replace(placed, call=replace(placed.call, last=last)))
    return ended[::-1]


def _check_order(steps: Sequence[Placed], known: set[str], kept: frozenset[str]) -> None:
    """Check that every value is computed before it is used."""
    for placed in steps:
        used = set(references([*placed.call.args, *placed.call.kwargs.values()]))
        if missing := used - known:
            raise ValueError(f"{min(missing)} is used before it is computed")
        known.update(_flat(placed.call.results))
    if missing := set(kept) - known:
        raise ValueError(f"{min(missing)} is returned and never computed")


def _flat(results: Any) -> Iterator[str]:
    if isinstance(results, str):
        yield results
    for entry in results if isinstance(results, tuple) else ():
        yield from _flat(entry)


def _assemble(network: ProgramNetwork, steps: Sequence[Placed], depth: int = 1, part: Part | None = None) -> None:
    """Give every part the calls that stand in it: those in a row with the same key at this depth go into one part."""
    found: list[Step] = []
    position = 0
    while position < len(steps):
        entry = steps[position].stack[depth : depth + 1]
        end = position + 1
        while entry and end < len(steps) and steps[end].stack[depth : depth + 1] == entry:
            end += 1
        if entry:
            inner = network.attach(entry[0][1])
            _assemble(network, steps[position:end], depth + 1, inner)
            found.append(inner)
        else:
            found.append(steps[position].call)
        position = end
    (part or network).program_steps = tuple(found)


def _inputs(module: GraphModule, interface: Interface) -> Iterator[Input]:
    for name in interface.inputs:
        meta = module.graph.tensor_values[name]
        shape = tuple(size.number() for size in meta.sizes)
        dtype = str(known(DTYPES, meta.dtype, "type")).rpartition(".")[2]
        yield Input(INPUT_NAME if len(interface.inputs) == 1 else name, shape, dtype)
