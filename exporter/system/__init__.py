"""What this machine has. Nothing here imports torch or any other library it looks for."""

import platform
from typing import Any

from attn_export.exporter.system.gpus import look_for_gpus
from attn_export.exporter.system.machine import cpu_name, usable_cpu_numbers, usable_cpus
from attn_export.exporter.system.packages import PACKAGES, versions
from attn_export.exporter.system.quota import Quota, cpu_quota

__all__ = ["PACKAGES", "Quota", "cpu_name", "cpu_quota", "describe", "usable_cpu_numbers", "usable_cpus", "versions"]


def describe(*, with_gpus: bool = False) -> dict[str, Any]:
    """What a reader needs to compare a report with another.

    Args:
        with_gpus: ask the driver for its GPUs too, which can take a second.
    """
    described = {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpu": cpu_name(),
        "cpus": usable_cpus(),
        "packages": versions(),
    }
    if with_gpus:
        described["gpus"] = [gpu.to_dict() for gpu in look_for_gpus().gpus]
    return described
