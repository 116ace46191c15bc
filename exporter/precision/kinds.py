"""The formats, and what is said of a node that keeps another one. Imported by the command line: nothing heavy here."""

from dataclasses import dataclass
from enum import Enum


class Precision(str, Enum):
    """The format that most of a graph computes in; the inputs and outputs of those we make are float32 in any case."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"

    def __str__(self) -> str:
        return self.value

    @property
    def suffix(self) -> str:
        """What stands between the stem and the ending of a file: none for float32, which is the plain name."""
        return "" if self is Precision.FP32 else f".{self.value}"

    @property
    def onnx_name(self) -> str:
        """The type's name in numpy and in ONNX."""
        return {Precision.FP32: "float32", Precision.FP16: "float16", Precision.BF16: "bfloat16"}[self]


# What files are made in; those of others are judged in all.
MADE = (Precision.FP32, Precision.FP16)


@dataclass(frozen=True)
class Kept:
    """A node that computes in float32 within a graph of another format.

    Attributes:
        node: its name.
        module_path: of the submodule it came from, empty where that isn't known.
        op_type: the operator.
        reason: half a sentence.
    """

    node: str
    module_path: str
    op_type: str
    reason: str
