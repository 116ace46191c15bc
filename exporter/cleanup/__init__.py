"""Graph cleanup: rewrites an ONNX graph into the form that suits a runtime. Needs neither a checkpoint nor torch."""
