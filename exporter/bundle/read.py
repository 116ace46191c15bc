"""Reading deployment bundles: every file is verified before it is used."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from attn_export.exporter.artifacts import Signature
from attn_export.exporter.bundle.golden import GoldenVectors, load, signature_of
from attn_export.exporter.bundle.manifest import GOLDEN, MANIFEST, Manifest
from attn_export.exporter.bundle.members import Members, find_members, unreadable
from attn_export.exporter.engine.graph import GraphFacts
from attn_export.exporter.records.document import SCHEMA_VERSION, DocumentError, decode
from attn_export.exporter.system.files import sha256_of, unwritable
from attn_export.exporter.system.scratch import scratch_folder

# The manifest of schema version 1, in bundles named *.kit.zip.
MANIFEST_1 = "kit.json"


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: a zip, or its folder, whose sha256 is that of ``bundle.json`` with all checksums."""

    path: Path
    sha256: str
    manifest: Manifest
    golden: GoldenVectors
    members: Members

    @property
    def signature(self) -> Signature:
        """Inputs and outputs of the network."""
        return signature_of(self.golden, self.manifest.profile)

    @contextmanager
    def unpacked(self, parent: Path) -> Iterator[GraphFacts]:
        """Facts about the ONNX file, with its path in the folder or in a temporary one inside ``parent``.

        Raises:
            UnreadableBundleError: the bundle was changed after it was read.
            OutputError: the ONNX file can't be written.
        """
        graph = self.manifest.graph
        if not self.members.is_zip:
            yield replace(graph, path=self.path / graph.path)
            return
        with scratch_folder(parent) as scratch:
            for name in self.manifest.files:
                if name.startswith(self.manifest.onnx):  # the file, and its weights in <name>.data
                    self._extract(name, scratch / name)
            yield replace(graph, path=scratch / graph.path)

    def _extract(self, name: str, target: Path) -> None:
        try:
            with target.open("wb") as stream:
                stream.writelines(self.members.verified(name, self.manifest.files[name]))
        except OSError as error:
            raise unwritable(target, error) from error


def is_bundle(path: Path) -> bool:
    """Whether a path looks like a bundle: a zip, or a folder with a manifest."""
    return path.name.endswith(".zip") or any((path / name).is_file() for name in (MANIFEST, MANIFEST_1))


def read_bundle(path: Path | str) -> Bundle:
    """Read a bundle and verify every file in it.

    ``path`` is the zip, or the folder that it was extracted to.

    Raises:
        UnreadableBundleError: it is missing, incomplete, damaged, or of another schema version.
    """
    path = Path(path)
    members = find_members(path)
    manifest = _read_manifest(members)
    if members.is_zip and (unlisted := members.sizes.keys() - manifest.files.keys() - {MANIFEST}):
        raise unreadable(path, f"{MANIFEST} doesn't list {min(unlisted)}")
    for name in manifest.files.keys() - {GOLDEN}:
        for _ in members.verified(name, manifest.files[name]):
            pass
    content = b"".join(members.verified(GOLDEN, manifest.files[GOLDEN]))
    try:
        golden = load(manifest.golden, content, manifest.profile)
    except ValueError as error:
        raise unreadable(path, f"{GOLDEN}: {error}") from error
    sha256 = sha256_of(path if members.is_zip else path / MANIFEST)
    return Bundle(path, sha256, manifest, golden, members)


def _read_manifest(members: Members) -> Manifest:
    if MANIFEST not in members.sizes:
        if MANIFEST_1 in members.sizes:
            raise unreadable(
                members.path,
                f"it has schema version 1 ({MANIFEST_1}), and this attn-export reads version {SCHEMA_VERSION}",
                "Write the bundle again with this version of attn-export.",
            )
        raise unreadable(members.path, f"it has no {MANIFEST}", "Expected a *.bundle.zip that attn-export wrote.")
    try:
        return decode(b"".join(members.blocks(MANIFEST)), Manifest)
    except DocumentError as error:
        raise unreadable(members.path, f"{MANIFEST}: {error}") from error
