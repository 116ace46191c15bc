"""Quantization to int8: which tensors, to which ranges, and the graph with QuantizeLinear and DequantizeLinear."""
