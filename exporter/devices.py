"""Where runtimes run."""

CPU, CUDA = "cpu", "cuda"
DEVICES = (CPU, CUDA)
