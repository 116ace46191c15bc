"""ONNX's reference evaluator, for what ONNX Runtime has no kernels for on a CPU: bfloat16."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator

from attn_export.exporter.artifacts import Signature
from attn_export.exporter.records.arrays import Array, Arrays
from attn_export.exporter.runtimes.base import Runtime, Settings
from attn_export.exporter.runtimes.emulated_types import emulated
from attn_export.exporter.runtimes.evaluator_operators import operators_for


class Evaluator(Runtime):
    """An ONNX file, operator by operator in float32, every result rounded to the type that the file gives it.

    It is exact where a runtime takes shortcuts, and slow: nobody deploys it, and its latency means nothing.

    Args:
        path: the file.
        signature: of the network.
        settings: PyTorch's threads, for the operators that it computes.
        extra_outputs: tensors of the graph that are returned too.
        only_extra: return these instead of the signature's outputs.
    """

    name = "onnx reference evaluator"

    def __init__(
        self,
        path: Path,
        signature: Signature,
        settings: Settings,
        extra_outputs: Sequence[str] = (),
        *,
        only_extra: bool = False,
    ) -> None:
        super().__init__(signature, settings)
        self.path = path
        outputs = () if only_extra else signature.output_names
        self._fetched = list(dict.fromkeys((*outputs, *extra_outputs)))
        self._evaluator: Any = None
        self._threads_before = torch.get_num_threads()

    @property
    def provenance(self) -> str:
        """The versions, and what is computed how."""
        return (
            f"onnx {onnx.__version__}'s reference evaluator, in float32 with every result rounded as the file says; "
            f"convolutions and pools by torch {torch.__version__}"
        )

    def _open(self) -> None:
        torch.set_num_threads(self.settings.threads)
        model = emulated(self.path)
        self._evaluator = ReferenceEvaluator(model, new_ops=operators_for(model))

    def _close(self) -> None:
        self._evaluator = None
        torch.set_num_threads(self._threads_before)

    def upload(self, arrays: Arrays) -> Mapping[str, Array]:
        """It reads arrays."""
        return arrays

    def infer(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Compute; the results are finished when it returns."""
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = self._evaluator.run(self._fetched, dict(inputs))
        return dict(zip(self._fetched, made, strict=True))

    def download(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """Nothing: they are arrays."""
        return {name: np.asarray(array) for name, array in outputs.items()}
