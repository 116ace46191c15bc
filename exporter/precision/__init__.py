"""The number format that a graph computes in: typed in the graph itself, since TensorRT builds what the graph says."""
