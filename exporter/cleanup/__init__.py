"""Graph to graph: the same function in the form that suits a runtime. Reads no checkpoint and needs no torch."""
