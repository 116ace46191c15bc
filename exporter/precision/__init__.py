"""The precision of a graph. TensorRT builds strongly typed networks: the graph itself holds the types."""
