"""The page in a bundle: what to install on the device, and the commands, ours and trtexec's."""

import shlex
from collections.abc import Mapping
from typing import Any

TRTEXEC = "/usr/src/tensorrt/bin/trtexec"
# From this opset on, TensorRT 10.3 isn't known to take a file.
LATEST_OPSET = 20
LIGHT = "typer rich numpy onnx onnx-ir typing-extensions"

PAGE = """\
# {name}: an engine for {device} ({architecture})

TensorRT builds engines for this GPU on the device alone. This bundle holds what it needs for that, and what the engine
has to compute: {images} images of {sizes}, in batches of {batches}, with the results of {reference}.

## Once, on the device

TensorRT {tensorrt} or later is needed. It comes with JetPack 6.1 and 6.2 (TensorRT 10.3, CUDA 12, Python 3.10) and with
JetPack 7 (CUDA 13, Python 3.12):

```sh
sudo apt install python3-libnvinfer python3-venv libnvinfer-bin
python3 -m venv --system-site-packages ~/attn-export   # TensorRT's bindings are the system's
source ~/attn-export/bin/activate
pip install {light}
pip install 'cuda-python>=12.6,<13'                    # JetPack 6; for JetPack 7: 'cuda-python>=13,<14'
pip install --no-deps attn-export                      # or the path of its wheel or checkout
```

Neither PyTorch nor ONNX Runtime nor onnxscript is needed here.

## Build, and compare

```sh
attn-export build {bundle} -o {engine}
attn-export validate {bundle} {engine}
```

The first command tunes the engine on this device's GPU. The second runs the images and judges every output; it ends
with 0 where all outputs agree and with 1 where one doesn't. The baseline is {baseline}.

## The same with trtexec

```sh
python3 -m zipfile -e {bundle} {folder} && cd {folder}
{trtexec}
```

trtexec writes no record beside its engine. `attn-export validate` therefore wants `--trust` for it: an engine is a
program, and this one is your own.{opset_note}

## Is it whole?

The commands above compare every file with its checksum in `bundle.json`. By hand:

```sh
python3 - <<'EOF'
import hashlib, json, zipfile
with zipfile.ZipFile({bundle_literal}) as bundle:
    for name, entry in json.loads(bundle.read("bundle.json"))["files"].items():
        same = hashlib.sha256(bundle.read(name)).hexdigest() == entry["sha256"]
        print("ok     " if same else "DAMAGED", name)
EOF
```

## What is in it

| file | what it is |
|---|---|
| `{onnx}` | the network, cleaned and typed ({precision}); weights of 2 GiB and more stand in `{onnx}.data` |
| `bundle.json` | profile, options, attention blocks, limits, versions, checksums |
| `sample.npz` | the images and what is expected of them |
"""


def readme(document: Mapping[str, Any], bundle: str) -> str:
    """The page.

    Args:
        document: what ``bundle.json`` will say, but for the checksums.
        bundle: the file's name.
    """
    sample, stem = document["sample"], document["name"]
    engine = f"{stem}.engine"
    images = [group["shape"] for group in sample["groups"]]
    batches = sorted({len(batch) for group in sample["groups"] for batch in group["batches"]})
    late = document["opset"] > LATEST_OPSET
    return PAGE.format(
        name=stem,
        device=document["device"] or document["architecture"],
        architecture=document["architecture"],
        images=sum(shape[0] for shape in images),
        sizes=" and ".join("×".join(map(str, shape[1:])) for shape in images),
        batches=", ".join(map(str, batches)),
        reference=sample["reference"],
        baseline=sample["baseline"],
        tensorrt=document["tensorrt"]["from"],
        light=LIGHT,
        bundle=shlex.quote(bundle),
        bundle_literal=repr(bundle),
        folder=shlex.quote(stem),
        engine=shlex.quote(engine),
        trtexec=" \\\n  ".join(shlex.quote(word) for word in trtexec(document, engine)),
        opset_note=f"\n\nThe file is of ONNX opset {document['opset']}; TensorRT 10.3 is only known to take up to "
        f"{LATEST_OPSET}."
        if late
        else "",
        onnx=document["onnx"],
        precision=document["precision"] or "as it came",
    )


def trtexec(document: Mapping[str, Any], engine: str) -> list[str]:
    """The command that builds what `building.build_bundle` builds, in TensorRT 10's words. It was never run.

    Shapes are named for inputs with an open axis only: for a graph without any trtexec refuses them.
    """
    options, inputs = document["options"], document["graph"]["inputs"]
    opened = [name for name, dims in inputs.items() if not all(isinstance(dim, int) for dim in dims)]
    words = [TRTEXEC, f"--onnx={document['onnx']}", f"--saveEngine={engine}", "--stronglyTyped"]
    if opened:
        for option, key in (("min", "min"), ("opt", "opt"), ("max", "max")):
            shapes = (f"{_named(name)}:{'x'.join(map(str, document['profile'][name][key]))}" for name in opened)
            words.append(f"--{option}Shapes={','.join(shapes)}")
    words += [] if options["tf32"] else ["--noTF32"]
    words += ["--maxAuxStreams=0", "--profilingVerbosity=detailed"]
    if options["workspace_mib"] is not None:
        words.append(f"--memPoolSize=workspace:{options['workspace_mib']}M")
    words += ["--versionCompatible"] if options["version_compatible"] else []
    words += ["--hardwareCompatibilityLevel=ampere+"] if options["hardware_compatible"] else []
    return [*words, "--skipInference"]


def _named(tensor: str) -> str:
    """A tensor's name, in the quotes that trtexec wants around one with a colon or a comma."""
    return f"'{tensor}'" if set(tensor) & {":", ","} else tensor
