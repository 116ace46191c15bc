"""One int8 file by one of the other quantizers; `benchmarks/precision.py` runs this in the environment that has it.

    python benchmarks/precision_peers.py TOOL FORM SOURCE.onnx CALIBRATION.npy OUT.onnx

FORM is tensorrt (symmetric int8 where the tool can) or onnxruntime. The last line printed is JSON: version and seconds.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx

BATCH = 8
Images = list[dict[str, np.ndarray]]


def by_onnxruntime(source: Path, images: Images, out: Path, form: str) -> None:
    """`quantize_static`: one scale for each channel; symmetric activations and float biases for TensorRT."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc] # the library has no types
        waiting: Iterator[dict[str, np.ndarray]] = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next batch."""
            return next(self.waiting, None)

    symmetric = form == "tensorrt"
    names = ("ActivationSymmetric", "WeightSymmetric", "AddQDQPairToWeight")
    quantize_static(
        str(source),
        str(out),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        extra_options={**dict.fromkeys(names, True), "QuantizeBias": False} if symmetric else {},
    )


def by_nncf(source: Path, images: Images, out: Path, form: str) -> None:
    """Full bias correction; symmetric activations for TensorRT."""
    import nncf  # type: ignore[import-not-found] # only in its own environment

    preset = nncf.QuantizationPreset.PERFORMANCE if form == "tensorrt" else nncf.QuantizationPreset.MIXED
    singles = [{name: array[i : i + 1] for name, array in feed.items()} for feed in images for i in range(BATCH)]
    singles = [feed for feed in singles if len(next(iter(feed.values())))]
    made = nncf.quantize(
        onnx.load(source), nncf.Dataset(singles), preset=preset, subset_size=len(singles), fast_bias_correction=False
    )
    onnx.save(made, out)


def by_aimet(source: Path, images: Images, out: Path, _form: str, iterations: int = 0) -> None:
    """int8 for both, with cross-layer equalization."""
    import aimet_onnx  # type: ignore[import-not-found] # only in its own environment
    from aimet_onnx.cross_layer_equalization import equalize_model  # type: ignore[import-not-found]

    model = onnx.load(source)
    equalize_model(model)
    sim = aimet_onnx.QuantizationSimModel(model, providers=["CPUExecutionProvider"])
    if iterations:
        aimet_onnx.apply_adaround(sim, images, num_iterations=iterations)
    sim.compute_encodings(images)
    onnx.save(sim.to_onnx_qdq(), out)


def by_aimet_adaround(source: Path, images: Images, out: Path, form: str) -> None:
    """The same with 500 iterations of AdaRound for each layer."""
    by_aimet(source, images, out, form, 500)


def by_modelopt(source: Path, images: Images, out: Path, _form: str) -> None:
    """int8 in float32, for TensorRT."""
    from modelopt.onnx.quantization import quantize  # type: ignore[import-not-found] # only in its own environment

    arrays = {name: np.concatenate([feed[name] for feed in images]) for name in images[0]}
    quantize(
        str(source),
        quantize_mode="int8",
        calibration_data=arrays,
        calibration_eps=["cpu"],
        high_precision_dtype="fp32",
        output_path=str(out),
    )


def by_onnxsim(source: Path, images: Images, out: Path, _form: str) -> None:
    """`quantize_static`, as it is by default."""
    import onnxsim  # type: ignore[import-not-found] # only in its own environment

    onnx.save(onnxsim.quantize_static(onnx.load(source), images), out)


TOOLS: dict[str, tuple[str, Callable[[Path, Images, Path, str], None]]] = {
    "onnxruntime": ("onnxruntime", by_onnxruntime),
    "nncf": ("nncf", by_nncf),
    "aimet": ("aimet-onnx", by_aimet),
    "aimet-adaround": ("aimet-onnx", by_aimet_adaround),
    "modelopt": ("nvidia-modelopt", by_modelopt),
    "onnxsim": ("onnxsim", by_onnxsim),
}


def main() -> None:
    tool, form, source, calibration, out = sys.argv[1:]
    name = onnx.load(source).graph.input[0].name
    array = np.load(calibration)
    images = [{name: array[i : i + BATCH]} for i in range(0, len(array), BATCH)]
    package, run = TOOLS[tool]
    start = time.perf_counter()
    run(Path(source), images, Path(out), form)
    facts: dict[str, Any] = {"version": version(package), "seconds": round(time.perf_counter() - start, 1)}
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
