"""A STAND-IN for the package onnxruntime, for workers alone: what the "model" file says is what happens there.

Words in the file: noise (everything is printed to standard output, all the time), exit, crash, hang, slow, memory;
behind a colon when: import, open or run, which is the default.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

__version__ = "0.0"


def do(words, when):
    for word in words.split():
        what, _, moment = word.partition(":")
        if (moment or "run") == when:
            ACTIONS[what]()


def make_noise():
    os.write(1, b"\x00\x01garbage\n" * 1000)
    sys.stdout.write("a warning\n")
    sys.stdout.flush()

    def go_on():
        while True:
            os.write(1, b"more garbage\n")
            time.sleep(0.001)

    threading.Thread(target=go_on, daemon=True).start()


def run_out_of_memory():
    raise MemoryError("no room for a tensor")


def say_and_exit():
    os.write(2, b"libfoo: bad state\n\n")
    os._exit(7)


ACTIONS = {
    "noise": make_noise,
    "exit": say_and_exit,
    "crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "hang": lambda: time.sleep(3600),
    "slow": lambda: time.sleep(0.05),
    "memory": run_out_of_memory,
}


class SessionOptions:
    pass


class Input:
    name, type = "input", "tensor(float)"


class InferenceSession:
    def __init__(self, path, options, providers, **_):
        self.words = Path(path).read_text()
        self.providers = providers
        do(self.words, "open")

    def get_providers(self):
        return self.providers

    def get_inputs(self):
        return [Input]

    def run(self, names, inputs):
        do(self.words, "run")
        return [inputs["input"]] * len(names)
