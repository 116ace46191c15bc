"""A process of this machine that does one job after the other. Started by `local`; ends with its parent."""

import os
import signal
import threading
from contextlib import nullcontext
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from attn_export.exporter.sweep.work import outcome_of
from attn_export.exporter.system.affinity import pinned


def _listen(connection: Connection, requests: "SimpleQueue[Any]") -> None:
    """Pass requests on. A parent that was killed wants no result, and the next one times alone: end at once."""
    try:
        while True:
            requests.put(connection.recv())
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGKILL)


def main(descriptor: int) -> None:
    """Do jobs until the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's
    connection = Connection(descriptor)
    requests: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_listen, args=(connection, requests), daemon=True).start()
    while True:
        cpus, job = requests.get()
        with pinned(cpus) if cpus else nullcontext():
            connection.send(outcome_of(*job))
