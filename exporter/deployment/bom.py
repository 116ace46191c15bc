"""The bill of materials of a device folder: CycloneDX 1.6 with a model card, https://cyclonedx.org/docs/1.6/json/.

The library of CycloneDX has no model cards, so the document is written here and validated by it in the tests.
"""

import uuid

import msgspec

from attn_export.exporter.deployment.manifest import DeviceManifest, MeasuredLatency, PackagedFile

BOM = "bom.cdx.json"
NAMESPACE = uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")  # of OIDs; a folder's number follows from its content


def bom_of(manifest: DeviceManifest) -> str:
    """The document as JSON: the model with its card, its files, and the packages that made them."""
    name, packages = manifest.name, manifest.made_with.packages
    digest = manifest.files[manifest.onnx].sha256
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, digest + manifest.created)}",
        "version": 1,
        "metadata": {"timestamp": manifest.created, "component": _model(manifest)},
        "components": [
            *(_file(file, entry) for file, entry in manifest.files.items()),
            *(
                {
                    "type": "library",
                    "bom-ref": f"pkg:pypi/{package}@{version}",
                    "name": package,
                    "version": version,
                    "purl": f"pkg:pypi/{package}@{version}",
                }
                for package, version in packages.items()
                if version != "not installed"
            ),
        ],
        "dependencies": [{"ref": f"model:{name}", "dependsOn": [f"file:{file}" for file in manifest.files]}],
    }
    return msgspec.json.format(msgspec.json.encode(document)).decode() + "\n"


def _model(manifest: DeviceManifest) -> dict[str, object]:
    found: dict[str, object] = {
        "type": "machine-learning-model",
        "bom-ref": f"model:{manifest.name}",
        "name": manifest.name,
        "modelCard": {
            "modelParameters": {
                "task": "image classification" if manifest.class_names else "inference",
                "inputs": [{"format": f"{i.dtype} {'x'.join(map(str, i.shape))}"} for i in manifest.inputs],
                "outputs": [{"format": output} for output in manifest.outputs],
            },
            "quantitativeAnalysis": {"performanceMetrics": _metrics(manifest)},
        },
        "properties": _properties(manifest),
    }
    if manifest.source_sha256:
        found["hashes"] = [{"alg": "SHA-256", "content": manifest.source_sha256}]
    if licenses := manifest.files[manifest.onnx].licenses:
        found["licenses"] = _licenses(licenses)
    return found


def _metrics(manifest: DeviceManifest) -> list[dict[str, object]]:
    """The verdict, and latencies with their confidence intervals."""
    verdict = manifest.verdict
    metrics = [_latency(latency) for latency in manifest.latencies]
    if verdict is None:
        return metrics
    about = "error ratio against PyTorch in float64"
    return [{"type": about, "value": f"{verdict.ratio:.3g}", "slice": verdict.runtime}, *metrics]


def _latency(latency: MeasuredLatency) -> dict[str, object]:
    low, high = latency.interval_ms
    return {
        "type": f"median latency in ms at batch {latency.batch}",
        "value": f"{latency.median_ms:.6g}",
        "slice": f"{latency.artifact} in {latency.provenance} on {latency.device}",
        "confidenceInterval": {"lowerBound": f"{low:.6g}", "upperBound": f"{high:.6g}"},
    }


def _properties(manifest: DeviceManifest) -> list[dict[str, str]]:
    """What CycloneDX has no field for, as JSON by name."""
    known = {
        "normalization": manifest.normalization,
        "preprocessing": manifest.preprocessing,
        "postprocessing": manifest.postprocessing,
        "class_names": manifest.class_names,
    }
    return [
        {"name": f"attn_export:{key}", "value": msgspec.json.encode(value).decode()}
        for key, value in known.items()
        if value is not None
    ]


def _file(name: str, entry: PackagedFile) -> dict[str, object]:
    found: dict[str, object] = {
        "type": "file",
        "bom-ref": f"file:{name}",
        "name": name,
        "hashes": [{"alg": "SHA-256", "content": entry.sha256}],
    }
    return {**found, "licenses": _licenses(entry.licenses)} if entry.licenses else found


def _licenses(licenses: tuple[str, ...]) -> list[dict[str, str]]:
    """One expression, which may be SPDX's or a LicenseRef."""
    return [{"expression": " AND ".join(licenses)}]
