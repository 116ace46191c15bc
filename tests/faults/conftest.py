"""For the tests of planted faults: each judges a file or two, and none has to wait for what all others share."""

import gc
from collections.abc import Iterator

import pytest

from tests.faults.planting import Subject


@pytest.fixture(autouse=True, scope="module")
def what_is_imported_is_not_looked_through(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Memory is given back after every run of a file, and then all objects are looked at, for a fifth of a second.

    Most of them are torch's and onnxscript's, and there once one network went through everything.
    """
    whole = Subject("se_digits", tmp_path_factory.mktemp("first"))
    assert whole.half.path.exists()
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
