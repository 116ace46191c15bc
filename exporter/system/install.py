"""The commands that install missing parts."""

RTX = "pip install 'attn-export[rtx]'"
TENSORRT = "pip install 'attn-export[tensorrt]'"
TENSORRT_ON_JETSON = "sudo apt-get install python3-libnvinfer"
CUDA_TORCH = "pip install --upgrade --force-reinstall torch"
ONNXRUNTIME_GPU = "pip uninstall --yes onnxruntime && pip install onnxruntime-gpu"
