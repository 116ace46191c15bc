"""One runtime in a process of its own, which takes its turns when it is told to. Started by `elsewhere`.

Between requests it waits for bytes, and uses no CPU. It ends when nobody can ask any more, whatever ended the other
side, and leaves Ctrl-C to that side.
"""

import os
import signal
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from queue import SimpleQueue
from typing import IO, Any

import numpy as np

from attn_export.exporter.latency.carried import packed
from attn_export.exporter.latency.channel import Message, receive, send
from attn_export.exporter.latency.rounds import InProcess
from attn_export.exporter.runtimes.make import from_dict, make

# Sent first, so that what start-up code prints before is told from an answer.
GREETING = b"\x00attn-export worker is here\x00"
# A runtime may take its time to close; one that hangs must not outlive its parent.
SECONDS_TO_END = 5.0

Requests = SimpleQueue[Message | None]


class Service:
    """Answers requests about one runtime: open, load and turn are answered, unload isn't."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._timed: InProcess | None = None

    def answer(self, request: Message) -> Message | None:
        """Do what is asked; what goes wrong is the answer. None where none is expected."""
        try:
            told = self._do(request)
        except Exception as error:  # noqa: BLE001 (the other side raises it)
            return Message({"error": packed(error)})
        return None if told is None else Message(told | {"about": self._about()})

    def _do(self, request: Message) -> dict[str, Any] | None:
        head = request.head
        if head["do"] == "open":
            self._timed = InProcess(self._stack.enter_context(make(from_dict(head["blueprint"]))))
            return {}
        assert self._timed is not None
        if head["do"] == "load":
            self._timed.load(np.frombuffer(request.body, np.float32).reshape(head["shape"]))
            return {}
        if head["do"] == "turn":
            turn = self._timed.turn(head["inferences"], warmed=head["warmed"])
            return {"seconds": turn.seconds, "device_seconds": turn.device_seconds}
        self._timed.close()
        return None

    def _about(self) -> dict[str, Any]:
        """What the other side says of the runtime as if it had it."""
        timed = self._timed
        assert timed is not None
        names = ("name", "provenance", "device", "precision", "open_seconds", "clock")
        return {name: getattr(timed, name) for name in names}


def serve(requests: Iterable[Message], answers: IO[bytes]) -> None:
    """Answer all requests in their order, and close the runtime."""
    with ExitStack() as stack:
        service = Service(stack)
        for request in requests:
            answer = service.answer(request)
            if answer is not None:
                send(answers, answer)


def own_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """Where requests come from and answers go to: standard input and output, which nobody else can use afterwards.

    What libraries print goes to standard error instead, and they have nothing to read.
    """
    requests, answers = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return os.fdopen(requests, "rb"), os.fdopen(answers, "wb")


def listen(source: IO[bytes], requests: Requests) -> None:
    """Pass requests on until the other side has ended; then see to it that this process ends."""
    try:
        while (request := receive(source)) is not None:
            requests.put(request)
    finally:
        requests.put(None)
        time.sleep(SECONDS_TO_END)
        os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Work until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    source, answers = own_pipes()
    answers.write(GREETING)
    answers.flush()
    requests: Requests = SimpleQueue()
    threading.Thread(target=listen, args=(source, requests), daemon=True).start()
    with suppress(BrokenPipeError):  # nobody waits for the answer
        serve(iter(requests.get, None), answers)
