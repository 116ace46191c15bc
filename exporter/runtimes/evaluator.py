"""ONNX's reference evaluator, for bfloat16, which ONNX Runtime's CPU provider lacks."""

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
    """An ONNX file, operator by operator in float32, each result rounded to its type in the file.

    Slow; its latency is meaningless.

    ``extra_outputs`` are intermediate tensors, which are returned too, or alone.
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
        """The versions, and how the file is evaluated."""
        return (
            f"onnx {onnx.__version__}'s reference evaluator, in float32 with each result rounded to its type; "
            f"convolutions and pools by torch {torch.__version__}"
        )

    def _open(self) -> None:
        torch.set_num_threads(self.settings.threads)
        self._evaluator = evaluator_of(emulated(self.path))

    def _close(self) -> None:
        self._evaluator = None
        torch.set_num_threads(self._threads_before)

    def upload(self, arrays: Arrays) -> Mapping[str, Array]:
        """No copy: the evaluator reads arrays."""
        return arrays

    def infer(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Evaluate; synchronous."""
        return evaluate(self._evaluator, self._fetched, inputs)

    def download(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """The results as arrays."""
        return {name: np.asarray(array) for name, array in outputs.items()}


def evaluated(path: Path, names: Sequence[str], feeds: Sequence[Mapping[str, Array]]) -> dict[str, list[Array]]:
    """The outputs of a file of any signature, by name, one array for each feed.

    Raises:
        InputError: the graph has subgraphs (If, Loop).
    """
    evaluator = evaluator_of(emulated(path))
    results = [evaluate(evaluator, names, feed) for feed in feeds]
    return {name: [np.asarray(result[name]) for result in results] for name in names}


def evaluator_of(model: onnx.ModelProto) -> ReferenceEvaluator:
    """The evaluator with operators of PyTorch. Raises an error of any type: it lacks one of the model's operators."""
    return ReferenceEvaluator(model, new_ops=operators_for(model))


def evaluate(evaluator: ReferenceEvaluator, names: Sequence[str], inputs: Arrays) -> dict[str, Array]:
    """The named outputs, without numpy's warnings."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dict(zip(names, evaluator.run(list(names), dict(inputs)), strict=True))
