"""Opens a device folder on the device: the engine for its GPU, or aloud the ONNX file. Needs no torch."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from attn_export.exporter.artifacts import Input, Signature
from attn_export.exporter.deployment.digests import check_digests, digest_of
from attn_export.exporter.deployment.manifest import DeviceManifest, read_manifest
from attn_export.exporter.engine.backend import load as load_backend
from attn_export.exporter.engine.sidecar import check_fits, read_sidecar
from attn_export.exporter.errors import AttnExportError, RuntimeUnavailableError, UsageError
from attn_export.exporter.records.arrays import Array, Arrays
from attn_export.exporter.runtimes.base import Runtime, Settings
from attn_export.exporter.system import gpus
from attn_export.exporter.system.machine import usable_cpus
from attn_export.exporter.workflows.verify import verify_folder


class FallbackWarning(UserWarning):
    """None of the engines of a device folder runs here, so ONNX Runtime runs the ONNX file; the message says why."""


@dataclass(frozen=True)
class Loaded:
    """A network, ready to run; ``refused`` says why engines don't run here. A context manager, or call `close`."""

    manifest: DeviceManifest
    artifact: str
    refused: Mapping[str, str]
    runtime: Runtime = field(repr=False)

    def __call__(self, inputs: Array | Arrays) -> dict[str, Array]:
        """Run a batch.

        ``inputs`` are (N, ...) of the only input, or of each by its name, in the types that the manifest says.

        Returns:
            (N, ...) of each output by its name.
        """
        if isinstance(inputs, Mapping):
            return self.runtime.run(inputs)
        (name, *others) = [taken.name for taken in self.manifest.inputs]
        if others:
            raise UsageError(f"the network takes {name}, {', '.join(others)}", hint="Pass a dictionary of arrays.")
        return self.runtime.run({name: inputs})

    def close(self) -> None:
        """Release the runtime; idempotent."""
        self.runtime.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load(folder: Path | str, *, key: Path | str | None = None, threads: int | None = None) -> Loaded:
    """Open a device folder: ``load("device")(pixels)``.

    The engine is the first one that was built for this machine's GPU and TensorRT; its digest is checked before it is
    loaded. Without one, ONNX Runtime runs the ONNX file on the CPU, and a `FallbackWarning` says why.

    Args:
        folder: from ``attn-export package --device``.
        key: public, in PEM: the signature and the digest of every file are verified first. None verifies no signature.
        threads: of ONNX Runtime; None for all usable CPUs.

    Raises:
        UnreadablePackageError: it is no device folder, its manifest is damaged, or there is a key and no signature.
        ChangedPackageError: a file that was to run has changed, or the signature isn't the key's.
        RuntimeUnavailableError: nothing in it runs here, or there is a key and no cryptography.
    """
    folder = Path(folder)
    if key is not None:
        verify_folder(folder, Path(key))
    manifest = read_manifest(folder)
    refused: dict[str, str] = {}
    settings = Settings(threads or usable_cpus())
    for name in manifest.engines:
        _check(folder, manifest, name, f"{name}.json")
        try:
            return Loaded(manifest, name, refused, _engine(folder / name, manifest, settings))
        except AttnExportError as error:
            refused[name] = error.message
    reasons = "; ".join(refused.values()) or "the folder holds no engine"
    warnings.warn(f"ONNX Runtime runs {manifest.onnx} on the CPU: {reasons}", FallbackWarning, stacklevel=2)
    weights = [name for name in (f"{manifest.onnx}.data",) if name in manifest.files]
    _check(folder, manifest, manifest.onnx, *weights)
    return Loaded(manifest, manifest.onnx, refused, _onnx(folder / manifest.onnx, manifest, settings))


def _check(folder: Path, manifest: DeviceManifest, *names: str) -> None:
    """Compare files with their digests."""
    listed = {name: manifest.files[name] for name in names}
    found = {n: digest_of(folder / n, file.bytes) for n, file in listed.items() if (folder / n).is_file()}
    check_digests(folder, {name: file.sha256 for name, file in listed.items()}, found)


def _engine(path: Path, manifest: DeviceManifest, settings: Settings) -> Runtime:
    """An engine, opened."""
    from attn_export.exporter.runtimes.tensorrt import TensorRT

    record, here = read_sidecar(path), gpus.found()
    assert record is not None
    if not here:
        raise RuntimeUnavailableError(f"{path.name} needs a GPU, and there is none")
    check_fits(record, path, load_backend(record.backend.name), here)
    return TensorRT(path, _signature(manifest), settings).open()


def _onnx(path: Path, manifest: DeviceManifest, settings: Settings) -> Runtime:
    from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime

    return OnnxRuntime(path, _signature(manifest), settings).open()


def _signature(manifest: DeviceManifest) -> Signature:
    inputs = (Input(taken.name, taken.shape, taken.dtype, taken.dynamic_axes) for taken in manifest.inputs)
    return Signature(tuple(inputs), manifest.outputs)
