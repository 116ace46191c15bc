"""The networks, graphs and files of the exporter's tests."""

from tests.exporter.conftest import artifact, captured, fresh, loaded, one_thread, reference

__all__ = ["artifact", "captured", "fresh", "loaded", "one_thread", "reference"]
