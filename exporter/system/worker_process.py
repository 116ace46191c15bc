"""Starts a process that runs a function of this package.

With ``python -I`` instead of multiprocessing's spawn, which imports the user's ``__main__`` again, and modules of the
current folder before it sets the search path. The two talk over multiprocessing's `Connection`.
"""

import subprocess
import sys
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

# The package's folder: the worker runs the same code, installed or not, with this process's search path.
PACKAGE = Path(__file__).resolve().parents[2]
START = """\
import importlib, sys, types
place, module, descriptor, sys.path[:] = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:]
package = sys.modules["attn_export"] = types.ModuleType("attn_export")
package.__path__ = [place]
importlib.import_module(module).main(descriptor)
"""


def start(module: str, output: IO[bytes]) -> tuple[subprocess.Popen[bytes], Connection]:
    """Start a worker.

    Args:
        module: whose function ``main`` it calls with the file descriptor of its end of the connection.
        output: receives its standard output and standard error.

    Returns:
        The process, and this end of the connection.

    Raises:
        OSError: it can't be started.
    """
    here, there = Pipe()
    with there:
        process = subprocess.Popen(  # noqa: S603 (trusted arguments)
            [sys.executable, "-I", "-c", START, str(PACKAGE), module, str(there.fileno()), *sys.path],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=[there.fileno()],
        )
    return process, here
