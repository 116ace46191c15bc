"""ONNX Runtime on an NVIDIA GPU."""

from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from typing import Any, ClassVar

import numpy as np

from attn_export.exporter.artifacts import CUDA
from attn_export.exporter.errors import RuntimeUnavailableError
from attn_export.exporter.records.arrays import Array, Arrays
from attn_export.exporter.runtimes.onnxruntime import OnnxRuntime
from attn_export.exporter.system import install

PROVIDER = "CUDAExecutionProvider"
# Part of every session, as the fallback, which is disabled here.
FALLBACK = "CPUExecutionProvider"
NO_CPU_NODES = "session.disable_cpu_ep_fallback"
PROVIDER_OPTIONS = {
    "device_id": "0",
    "use_tf32": "0",  # float32 means float32
    "cudnn_conv_algo_search": "EXHAUSTIVE",  # the library's default; the search happens in `open`
}


def require_provider() -> None:
    """Check that this ONNX Runtime was built with CUDA. Raises RuntimeUnavailableError: it was not."""
    import onnxruntime

    if PROVIDER not in (providers := onnxruntime.get_available_providers()):
        raise RuntimeUnavailableError(
            f"onnxruntime can't run on cuda: onnxruntime {onnxruntime.__version__} was built without {PROVIDER}; it "
            f"has {', '.join(providers)}",
            hint=f"{install.ONNXRUNTIME_GPU} (both provide the same module, so uninstall the other), or --device cpu.",
        )


class OnnxRuntimeCuda(OnnxRuntime):
    """An ONNX file on the CUDA provider alone; a node without a CUDA kernel is an error.

    Inputs and outputs are bound to GPU memory, so `infer` copies nothing. The next `infer` on the same inputs
    overwrites its outputs.
    """

    name = "onnxruntime-cuda"
    device = CUDA
    provider: ClassVar[tuple[str, dict[str, str]]] = (PROVIDER, PROVIDER_OPTIONS)

    _bound: Mapping[str, Any] | None = None
    _binding: Any = None

    @property
    def provenance(self) -> str:
        """The library's version, the provider and its options."""
        import onnxruntime

        provider, options = self.provider
        text = ", ".join(f"{key}={value}" for key, value in options.items())
        return f"onnxruntime {onnxruntime.__version__}, {provider} ({text}), no node on the CPU, no CUDA graph"

    def _open(self) -> None:
        import onnxruntime

        require_provider()
        options = self._options()
        options.add_session_config_entry(NO_CPU_NODES, "1")
        with redirect_stdout(StringIO()):  # it prints missing libraries, which the session's error repeats
            if hasattr(onnxruntime, "preload_dlls"):  # loads CUDA's libraries from pip's packages
                onnxruntime.preload_dlls()
        self._session = onnxruntime.InferenceSession(
            self._source(options), options, providers=[self.provider], enable_fallback=0
        )
        chosen = self._session.get_providers()
        if [name for name in chosen if name != FALLBACK] != [self.provider[0]]:
            raise RuntimeUnavailableError(
                f"ONNX Runtime chose {', '.join(chosen)} instead of {self.provider[0]}: CUDA's libraries, cuDNN "
                "or the driver are missing or have the wrong version",
                hint="attn-export doctor lists the installed versions.",
            )

    def _close(self) -> None:
        # First the bindings, which hold memory of the session's device.
        self._binding = self._bound = None
        super()._close()

    def upload(self, arrays: Arrays) -> Mapping[str, Any]:
        """Copy to GPU memory."""
        import onnxruntime

        return {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array), self.device, 0)
            for name, array in arrays.items()
        }

    def infer(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Run the session on bound memory; binds new inputs first."""
        if inputs is not self._bound:
            self._binding, self._bound = self._bind(inputs), inputs
        self._session.run_with_iobinding(self._binding)
        return dict(zip(self._fetched, self._binding.get_outputs(), strict=True))

    def _bind(self, inputs: Mapping[str, Any]) -> Any:
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._fetched:
            binding.bind_output(name, self.device, 0)
        return binding

    def synchronize(self) -> None:
        """Wait for the GPU."""
        if self._binding is not None:
            self._binding.synchronize_outputs()

    def download(self, outputs: Mapping[str, Any]) -> dict[str, Array]:
        """Copy to new arrays."""
        return {name: np.array(value.numpy()) for name, value in outputs.items()}
