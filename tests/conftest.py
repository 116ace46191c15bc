"""For all tests."""

import copy
import functools
import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator

import hypothesis
import pytest

# Parallel workers share the cores, and threads that wait for each other spin. Read when torch is first imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell that starts the tests in the background lets them, and all they start, ignore Ctrl-C, and nohup the end of the
# terminal, which are tested here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


# The folder of tests/shared.py, made by the process that starts the workers.
SHARED = "ATTN_EXPORT_SHARED_BY_TESTS"


# How many examples a property gets where its test doesn't say; no example may fail for being slow.
hypothesis.settings.register_profile("full", deadline=None, max_examples=100)
hypothesis.settings.register_profile("usual", deadline=None, max_examples=30)


def pytest_configure(config: pytest.Config) -> None:
    hypothesis.settings.load_profile("usual" if config.option.markexpr == "not full" else "full")
    if SHARED not in os.environ:
        os.environ[SHARED] = tempfile.mkdtemp(prefix="attn-export-tests-")
        config.add_cleanup(lambda: shutil.rmtree(os.environ.pop(SHARED), ignore_errors=True))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Random weights are the same each time, also those of fixtures that a test is the first to ask for."""
    import torch

    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def cache_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The user's cache is neither read nor filled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ATTN_EXPORT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def operators_are_read_once() -> Iterator[None]:
    """PyTorch's exporter parses the sources of its 500 operators for every export, a third of a second each time."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    read = functools.cache(ONNXRegistry.from_torchlib)

    def from_torchlib(**options: int) -> ONNXRegistry:
        registry = copy.copy(read(**options))
        registry.functions = {target: list(found) for target, found in registry.functions.items()}
        return registry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(from_torchlib))
        yield


@pytest.fixture(autouse=True, scope="module")
def imported_modules_are_not_collected() -> None:
    """Leave what there is before a file's tests out of garbage collections: each export asks for several, and the
    half million objects of torch and onnxscript would take a quarter of a second each time."""
    gc.collect()
    gc.freeze()
