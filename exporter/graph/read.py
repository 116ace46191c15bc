"""ONNX files to graphs whose weights stay in the file.

A file is a protobuf message, and a weight is a run of bytes in it. The structure, some hundred kilobytes, is parsed;
each large weight is left where it is, as a place in the file that is mapped into memory when it is looked at. So a file
is opened in a few milliseconds, and cleaning it takes no second copy of its weights. ONNX Runtime reads them from the
same place (`skeleton`).
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common

from attn_export.exporter.artifacts import OnnxFile, ParsedFile, names_network
from attn_export.exporter.errors import UnreadableGraphError, first_line
from attn_export.exporter.graph.dialect import bodies_of, unify
from attn_export.exporter.graph.external import MAPPED_BYTES, settle_external_data
from attn_export.exporter.graph.limits import check_counts, check_grown
from attn_export.exporter.graph.shapes import forget_generated_names, infer_shapes
from attn_export.exporter.graph.tensors import check_tensors
from attn_export.exporter.system.file_kinds import ONNX, kind_of
from attn_export.exporter.system.quiet import quiet

LENGTH_DELIMITED = 2
MOST_BYTES = 2**31 - 1  # of a protobuf message
Buffer = bytes | mmap.mmap


def read(path: Path) -> ir.Model:
    """Open a file; its nodes are sorted, its weights mapped.

    The file may be replaced afterwards, but not be written to, while the graph is in use.

    Returns:
        The graph, in the spelling of `dialect.unify`. Weights in other files are places in those.

    Raises:
        UnreadableGraphError: the file is missing, empty, truncated, not ONNX, not valid, or its external data are
            missing, too short or outside of its folder.
    """
    proto, places = _parse(path)
    _refuse_what_would_be_lost(proto, path)
    check_counts(proto, path)
    check_tensors(proto, path, places)
    unify(proto)
    try:
        with quiet():
            model = ir.from_proto(proto)
            ir.external_data.set_base_dir(model.graph, path.resolve().parent)
            _map_weights(model, places, path)
            model.graph.sort()
    except UnreadableGraphError:
        raise
    except Exception as error:
        message = "its nodes form a cycle" if "cycle" in str(error).lower() else first_line(_root(error))
        raise UnreadableGraphError(f"{path} is not a valid ONNX graph: {message}") from error
    settle_external_data(model, path)
    check_grown(model, path)
    _infer_outputs(model)
    check(model, path)
    return model


def parse(path: Path) -> ParsedFile:
    """Parse and check a file, to be passed on. Raises UnreadableGraphError: as `read`."""
    return ParsedFile(path, read(path))


def parsed(file: OnnxFile) -> ParsedFile:
    """The content of a file, which is parsed only if that hasn't been done. Raises UnreadableGraphError: as `read`."""
    if file.parsed is None or file.parsed.path != file.path:
        return parse(file.path)
    return file.parsed


def named(model: ir.Model) -> ir.Model:
    """The graph with a name for every node: nodes without one get the name that TensorRT's parser gives them."""
    for node in model.graph:
        if not node.name:
            node.name = f"node_of_{next((v.name for v in node.outputs if v.name), '')}"
    return model


def check(model: ir.Model, path: Path) -> None:
    """Let onnx's own checker see the graph. Raises UnreadableGraphError: it objects."""
    shapeless_input = next(
        (v for v in model.graph.inputs if isinstance(v.type, ir.TensorType) and v.shape is None), None
    )
    if shapeless_input is not None:
        raise UnreadableGraphError(
            f"{path} doesn't state the shape of its input {shapeless_input.name}",
            hint='Write it into the file: onnx.helper.make_tensor_value_info(name, type, ["N", 3, "H", "W"]).',
        )
    shapeless = [value for value in model.graph.outputs if value.shape is None]
    for value in shapeless:  # ONNX's specification doesn't require the shape of an output, but its checker does
        value.shape = ir.Shape(())
    try:
        with quiet():
            common.CheckerPass(full_check=False)(model)
    except Exception as error:
        reason = str(error.__cause__ or error)
        raise UnreadableGraphError(
            f"{path} is not valid ONNX: {reason.splitlines()[0]}",
            hint="onnx.checker.check_model says the same; the program that wrote the file has to be mended.",
        ) from error
    finally:
        for value in shapeless:
            value.shape = None


def _infer_outputs(model: ir.Model) -> None:
    """Infer the types and shapes of outputs that state none."""
    unstated = [value for value in model.graph.outputs if value.type is None or value.shape is None]
    if unstated:
        with quiet():
            infer_shapes(model)
        for value in unstated:
            forget_generated_names(value)


def _parse(path: Path) -> tuple[onnx.ModelProto, dict[str, tuple[int, int]]]:
    """The message without its large weights, and for those the offset and length in the file."""
    try:
        size = path.stat().st_size
        if size == 0:
            raise UnreadableGraphError(f"{path} is empty", hint="Was it copied completely?")
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            rest, places = _without_weights(data)
    except OSError as error:
        hint = "Expected is the path of an ONNX file."
        if names_network(path):
            hint = f"`attn-export {path} --onnx` makes an ONNX file of the library's network."
        raise UnreadableGraphError(f"{path} can't be read: {error.strerror or error}", hint=hint) from error
    except (ValueError, IndexError) as error:
        raise _not_onnx(path) from error
    try:
        proto = onnx.ModelProto.FromString(rest)
    except Exception as error:  # protobuf's own, which isn't ours to import
        raise _not_onnx(path) from error
    if not proto.HasField("graph") or not proto.ir_version or not proto.graph.output:
        raise _not_onnx(path)
    return proto, places


def _not_onnx(path: Path) -> UnreadableGraphError:
    if (kind := kind_of(path)) is not None and kind is not ONNX:
        return UnreadableGraphError(f"{path} is not an ONNX file: it is {kind.name}", hint=kind.hint.format(path=path))
    return UnreadableGraphError(
        f"{path} is not an ONNX file, or a damaged one",
        hint="Expected is a file that torch.onnx.export or attn-export wrote, whole. Was it copied completely?",
    )


def _without_weights(data: mmap.mmap) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """The top-level message with every large raw_data taken out, as bytes."""
    places: dict[str, tuple[int, int]] = {}
    kept = bytearray()
    for field, whole, content in _fields(data, 0, len(data)):
        is_graph = field == onnx.ModelProto.GRAPH_FIELD_NUMBER and content is not None
        if not is_graph and len(kept) + len(whole) > MOST_BYTES:
            raise ValueError("more than protobuf reads")
        if field != onnx.ModelProto.GRAPH_FIELD_NUMBER or content is None:
            kept += data[whole.start : whole.stop]
            continue
        graph = bytearray()
        for inner, inner_whole, inner_content in _fields(data, content.start, content.stop):
            if (
                inner != onnx.GraphProto.INITIALIZER_FIELD_NUMBER
                or inner_content is None
                or len(inner_content) < MAPPED_BYTES
            ):
                graph += data[inner_whole.start : inner_whole.stop]
                continue
            tensor, place = _without_raw_data(data, inner_content)
            if place is not None:
                places[onnx.TensorProto.FromString(tensor).name] = place
            graph += length_prefix(onnx.GraphProto.INITIALIZER_FIELD_NUMBER, len(tensor)) + tensor
        kept += length_prefix(onnx.ModelProto.GRAPH_FIELD_NUMBER, len(graph)) + graph
    return bytes(kept), places


def _without_raw_data(data: mmap.mmap, tensor: range) -> tuple[bytes, tuple[int, int] | None]:
    kept, place = bytearray(), None
    for field, whole, content in _fields(data, tensor.start, tensor.stop):
        if field == onnx.TensorProto.RAW_DATA_FIELD_NUMBER and content is not None and len(content) >= MAPPED_BYTES:
            place = (content.start, len(content))
        else:
            kept += data[whole.start : whole.stop]
    return bytes(kept), place


def _fields(data: Buffer, start: int, stop: int) -> Iterator[tuple[int, range, range | None]]:
    """The fields of a message: number, all of its bytes, and the content of one that has a length.

    https://protobuf.dev/programming-guides/encoding/#structure
    """
    position = start
    while position < stop:
        first = position
        key, position = _varint(data, position)
        field, wire = key >> 3, key & 7
        content = None
        if wire == LENGTH_DELIMITED:
            length, position = _varint(data, position)
            content = range(position, position + length)
            position += length
        elif wire == 0:
            _, position = _varint(data, position)
        elif wire in (1, 5):
            position += 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if position > stop or field == 0:
            raise ValueError("a field ends beyond its message")
        yield field, range(first, position), content


def _varint(data: Buffer, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def length_prefix(field: int, length: int) -> bytes:
    """What stands before a message inside another one: the field's number, wire type 2, and the length, as varints."""
    encoded = bytearray()
    for value in (field << 3 | LENGTH_DELIMITED, length):
        while value > 0x7F:
            encoded.append(value & 0x7F | 0x80)
            value >>= 7
        encoded.append(value)
    return bytes(encoded)


def _refuse_what_would_be_lost(proto: onnx.ModelProto, path: Path) -> None:
    sparse = any(graph.sparse_initializer for graph in (proto.graph, *bodies_of(proto.graph.node)))
    for what, present in (("sparse weights", sparse), ("training information", bool(proto.training_info))):
        if present:
            raise UnreadableGraphError(
                f"{path} holds {what}, which would be lost", hint="Export it again without, or leave it as it is."
            )


def _map_weights(model: ir.Model, places: dict[str, tuple[int, int]], path: Path) -> None:
    """Give every weight that was taken out of the message its place in the file."""
    for name, (offset, length) in places.items():
        value = model.graph.initializers.get(name)
        if value is None or value.const_value is None:
            raise ValueError(f"the weight {name} has no name of its own")
        parsed = value.const_value
        if parsed.nbytes != length:
            raise UnreadableGraphError(
                f"{path} is damaged: {name} should have {parsed.nbytes} bytes and has {length}",
                hint="Was it copied completely?",
            )
        value.const_value = ir.ExternalTensor(
            str(path.resolve()),
            offset,
            length,
            parsed.dtype,
            shape=ir.Shape(parsed.shape.numpy()),
            name=name,
            doc_string=parsed.doc_string,
            metadata_props=dict(parsed.metadata_props),
        )


def _root(error: BaseException) -> BaseException:
    """What an error was raised from in the first place."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def files_of(model: ir.Model) -> set[Path]:
    """The files that a graph's weights are mapped from, with the file itself if it holds any."""
    tensors = [value.const_value for value in model.graph.initializers.values()]
    return {Path(tensor.path).resolve() for tensor in tensors if isinstance(tensor, ir.ExternalTensor)}


def skeleton(model: ir.Model, folder: Path) -> bytes:
    """The graph as bytes without its mapped weights, for ONNX Runtime, which looks for them in ``folder``.

    ``model`` is as `read` returned it.
    """
    proto = ir.to_proto(model)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location" and Path(entry.value).is_absolute():
                entry.value = Path(entry.value).relative_to(folder.resolve()).as_posix()
    serialized: bytes = proto.SerializeToString()
    return serialized
