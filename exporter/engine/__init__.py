"""Builds TensorRT engines from ONNX graphs with TensorRT 10, TensorRT 11 or TensorRT-RTX.

One code path serves all three: the module is an argument, and features are detected by attribute.
"""
