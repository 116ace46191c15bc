"""Bundles, read: every byte is compared with its checksum before anything is made of it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from attn_export.exporter.artifacts import Precision, Signature
from attn_export.exporter.bundle.golden import GoldenVectors, from_document, signature_of
from attn_export.exporter.bundle.members import (
    ARRAYS,
    MANIFEST,
    Members,
    find_members,
    is_plain,
    read_manifest,
    unreadable,
)
from attn_export.exporter.engine.graph import GraphFacts
from attn_export.exporter.engine.precision_audit import SIDES, NodeTypes
from attn_export.exporter.errors import UnreadableBundleError
from attn_export.exporter.graph.attention.blocks import from_json
from attn_export.exporter.records.engine import BuildOptions, Profile, Range, Shape
from attn_export.exporter.system.files import scratch_folder, sha256_of

SCHEMA_VERSION = 1
Listed = Mapping[str, tuple[int, str]]


@dataclass(frozen=True)
class Bundle:
    """A bundle that is whole.

    Attributes:
        path: the zip, or the folder that it was extracted to.
        sha256: of the zip; of ``bundle.json``, which has the checksums of all the others, for a folder.
        name: what its files are called, without endings.
        architecture: that the engine is for.
        precision: that the graph is typed in, None where nobody said.
        onnx: name of the ONNX file in the bundle.
        facts: of the graph; ``path`` is that name.
        profile, options: of the engine.
        sample: what the engine is judged by.
        document: the content of ``bundle.json``.
        members: its files.
        listed: name -> bytes and sha256.
    """

    path: Path
    sha256: str
    name: str
    architecture: str
    precision: Precision | None
    onnx: str
    facts: GraphFacts
    profile: Profile
    options: BuildOptions
    sample: GoldenVectors
    document: Mapping[str, Any]
    members: Members
    listed: Listed

    @property
    def onnx_sha256(self) -> str:
        """Of the ONNX file."""
        return self.listed[self.onnx][1]

    @property
    def signature(self) -> Signature:
        """What artifacts of this network take and return."""
        return signature_of(self.sample, self.profile)

    @contextmanager
    def unpacked(self, beside: Path) -> Iterator[GraphFacts]:
        """The graph's facts, with the path of the file itself: extracted for a while, or where it stands.

        Args:
            beside: a folder in which files may be made.

        Raises:
            UnreadableBundleError: the bundle was changed meanwhile.
            OutputError: there is no room.
        """
        if not self.members.is_zip:
            yield replace(self.facts, path=self.path / self.onnx)
            return
        with scratch_folder(beside) as scratch:
            self.members.check(self.listed, to=scratch, only=self.onnx)
            yield replace(self.facts, path=scratch / self.onnx)


def is_bundle(path: Path) -> bool:
    """Whether a path looks like a bundle: a zip, or a folder with a ``bundle.json``."""
    return path.name.endswith(".zip") or (path / MANIFEST).is_file()


def read_bundle(path: Path | str) -> Bundle:
    """Read a bundle and compare every file in it with its checksum.

    Args:
        path: the zip, or the folder that it was extracted to.

    Raises:
        UnreadableBundleError: it is missing, incomplete, damaged, or was written by a newer attn-export.
    """
    path = Path(path)
    members = find_members(path)
    if MANIFEST not in members.sizes:
        raise unreadable(path, f"it holds no {MANIFEST}", "Expected is a file that attn-export wrote: *.bundle.zip")
    document = read_manifest(members)
    version = document.get("schema_version")
    if not isinstance(version, int):
        raise unreadable(path, f"{MANIFEST} doesn't say which version it is of")
    if version > SCHEMA_VERSION:
        raise UnreadableBundleError(
            f"{path} was written by a newer attn-export (schema {version}, known is {SCHEMA_VERSION})",
            hint="Update attn-export here, or write the bundle again with this version.",
        )
    try:
        listed = _listed(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise unreadable(path, f"{MANIFEST} is damaged ({error})") from error
    if extra := members.sizes.keys() - listed.keys() - {MANIFEST} if members.is_zip else ():
        raise unreadable(path, f"it holds {sorted(extra)[0]}, which {MANIFEST} doesn't list")
    members.check(listed)
    try:
        return _bundle(path, document, members, listed)
    except UnreadableBundleError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise unreadable(path, f"{MANIFEST} is damaged ({error})") from error


def _listed(document: Mapping[str, Any]) -> Listed:
    listed = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in document["files"].items()}
    if not all(is_plain(name) for name in listed) or MANIFEST in listed or ARRAYS not in listed:
        raise ValueError("its files")
    if document["onnx"] not in listed:
        raise ValueError("its ONNX file")
    return listed


def _bundle(path: Path, document: Mapping[str, Any], members: Members, listed: Listed) -> Bundle:
    profile = {
        str(name): Range(*(_shape(entry[key]) for key in ("min", "opt", "max")))
        for name, entry in document["profile"].items()
    }
    for taken in profile.values():
        if not all(taken.covers(shape) for shape in taken.shapes):
            raise ValueError("its profile")
    sample = from_document(document["sample"], members.read(ARRAYS), profile[document["sample"]["input"]])
    return Bundle(
        path=path,
        sha256=sha256_of(path if members.is_zip else path / MANIFEST),
        name=str(document["name"]),
        architecture=str(document["architecture"]),
        precision=Precision(document["precision"]) if document["precision"] is not None else None,
        onnx=document["onnx"],
        facts=_facts(document["graph"], Path(document["onnx"])),
        profile=profile,
        options=_options(document["options"]),
        sample=sample,
        document=document,
        members=members,
        listed=listed,
    )


def _shape(sizes: Any) -> Shape:
    shape = tuple(int(size) for size in sizes)
    if not shape or min(shape) < 1:
        raise ValueError("its profile")
    return shape


def _facts(graph: Mapping[str, Any], path: Path) -> GraphFacts:
    blocks = from_json(json.dumps(graph["blocks"]))
    if len(blocks) != len(graph["blocks"]):
        raise ValueError("its attention blocks")
    return GraphFacts(
        path=path,
        inputs={str(name): tuple(dims) for name, dims in graph["inputs"].items()},
        outputs={str(name): tuple(dims) for name, dims in graph["outputs"].items()},
        types={str(node): _types(types) for node, types in graph["types"].items()},
        modules={str(node): str(module) for node, module in graph["modules"].items()},
        weights={str(node): int(count) for node, count in graph["weights"].items()},
        blocks=blocks,
    )


def _types(types: Mapping[str, Any]) -> NodeTypes:
    return NodeTypes(**{side: frozenset(str(name) for name in types[side]) for side in SIDES})


def _options(options: Mapping[str, Any]) -> BuildOptions:
    flags = {name: options[name] for name in ("tf32", "version_compatible", "hardware_compatible")}
    workspace = options["workspace_mib"]
    if not all(isinstance(flag, bool) for flag in flags.values()) or not isinstance(workspace, int | None):
        raise TypeError("its options")
    return BuildOptions(workspace_mib=workspace, **flags)
