"""Names of a network's outputs, in its ONNX file and everywhere else."""

import re
from collections.abc import Sequence
from typing import Any


def output_names(paths: Sequence[Any]) -> tuple[str, ...]:
    """``output``, ``output_0`` of a tuple, or ``output_<key>`` of a dictionary.

    ``paths`` are those of torch's ``tree_flatten_with_path``.
    """
    from torch.utils import _pytree as pytree

    keys = [re.sub(r"\W+", "_", pytree.keystr(path)).strip("_") for path in paths]
    names = tuple(f"output_{key}" if key else "output" for key in keys)
    # Keys that differ only in characters outside of names are numbered.
    return names if len(set(names)) == len(names) else tuple(f"output_{i}" for i in range(len(names)))
