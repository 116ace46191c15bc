"""Vectorized operators for ONNX's reference evaluator, whose own take seconds.

They cover the cases that rewrites meet: pools with the kernel of the map, Resize of a single pixel, and Expand.
"""

from functools import cache
from typing import Any

import numpy as np

from attn_export.exporter.records.arrays import Array


@cache
def whole_map_operators() -> list[type]:
    """For ``ReferenceEvaluator(new_ops=...)``; other cases fall back to the evaluator's operators."""
    from onnx.reference.ops import op_average_pool, op_batch_normalization, op_expand, op_max_pool, op_resize

    any_average: Any = op_average_pool.AveragePool_19
    any_max: Any = op_max_pool.MaxPool
    any_norm: Any = op_batch_normalization.BatchNormalization_14
    any_expand: Any = op_expand.Expand
    any_resize: Any = op_resize.Resize

    class AveragePool(any_average):  # type: ignore[misc]
        def _run(self, x: Array, **options: Any) -> Any:
            return (x.mean((2, 3), keepdims=True),) if _fills(x, options) else super()._run(x, **options)

    class MaxPool(any_max):  # type: ignore[misc]
        def _run(self, x: Array, **options: Any) -> Any:
            return (x.max((2, 3), keepdims=True),) if _fills(x, options) else super()._run(x, **options)

    class Resize(any_resize):  # type: ignore[misc]
        def _run(self, x: Array, roi: Any, scales: Any = None, *rest: Any, **options: Any) -> Any:
            if x.shape[2:] != (1, 1) or scales is None or options.get("mode") != "nearest":
                return super()._run(x, roi, scales, *rest, **options)
            return (np.broadcast_to(x, [int(n * scale) for n, scale in zip(x.shape, scales, strict=True)]),)

    class BatchNormalization(any_norm):  # type: ignore[misc]
        """The evaluator mistakes opset 9's momentum for training mode."""

        def _run(self, x: Array, *parameters: Any, epsilon: Any = 1e-5, training_mode: Any = 0, **options: Any) -> Any:
            if training_mode:
                return super()._run(x, *parameters, epsilon=epsilon, training_mode=training_mode, **options)
            scale, shift, mean, variance = (p.reshape(-1, *(1,) * (x.ndim - 2)) for p in parameters)
            return ((x - mean) * (scale / np.sqrt(variance + epsilon)) + shift,)

    class Expand(any_expand):  # type: ignore[misc]
        def _run(self, x: Array, shape: Array) -> Any:
            return (np.broadcast_to(x, np.broadcast_shapes(x.shape, tuple(shape))),)

    return [AveragePool, MaxPool, Resize, Expand, BatchNormalization]


def _fills(x: Array, options: dict[str, Any]) -> bool:
    return (
        x.ndim == 4 and tuple(options.get("kernel_shape") or ()) == x.shape[2:] and not any(options.get("pads") or ())
    )
