"""Deployment bundles: everything that a device needs to build its own engine and to verify it.

A bundle is one zip file with the ONNX file, the manifest ``bundle.json``, golden inputs and outputs, and a README.
Reading it needs neither torch nor ONNX Runtime nor onnxscript.
"""
