"""ONNX graphs to TensorRT engines, with whichever of TensorRT 10, TensorRT 11 and TensorRT-RTX is there.

One code path serves all three: the module is an argument, and what only some of them have is found by looking for it.
"""
