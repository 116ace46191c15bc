"""ONNX graphs: reading, writing, and facts about nodes and values."""
