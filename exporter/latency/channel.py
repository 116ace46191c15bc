"""Messages between a process and its worker: JSON, and bytes behind it. Nothing that arrives is run or unpickled.

A message is two lengths in bytes (unsigned, 4 and 8, little endian), the JSON and the bytes.
"""

import json
import struct
from dataclasses import dataclass, field
from typing import IO, Any

LENGTHS = struct.Struct("<IQ")


@dataclass(frozen=True)
class Message:
    """What is sent at once.

    Attributes:
        head: of values that JSON has; others arrive as their words.
        body: bytes that would be large as JSON.
    """

    head: dict[str, Any]
    body: bytes | bytearray | memoryview = field(default=b"", repr=False)


def send(stream: IO[bytes], message: Message) -> None:
    """Write a message, and let nothing of it wait.

    Raises:
        OSError: nobody reads any more.
    """
    head = json.dumps(message.head, default=str).encode()
    stream.write(LENGTHS.pack(len(head), len(message.body)))
    stream.write(head)
    stream.write(message.body)
    stream.flush()


def receive(stream: IO[bytes]) -> Message | None:
    """The next message, waited for; None where the other side has ended, in the middle of one too.

    Raises:
        OSError: the stream is broken.
        ValueError: it isn't a message.
    """
    lengths = _exactly(stream, LENGTHS.size)
    if lengths is None:
        return None
    head_length, body_length = LENGTHS.unpack(lengths)
    head, body = _exactly(stream, head_length), None
    if head is not None:
        body = _exactly(stream, body_length)
    return None if head is None or body is None else Message(json.loads(head), body)


def _exactly(stream: IO[bytes], length: int) -> bytearray | None:
    """So many bytes, None where there are fewer. They may be written to: arrays are made of them."""
    buffer = bytearray(length)
    view, filled = memoryview(buffer), 0
    while filled < length:
        count = stream.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            return None
        filled += count
    return buffer


def skip_to(stream: IO[bytes], mark: bytes) -> bool:
    """Read until these bytes came, whatever came before; False where the stream ended."""
    seen = bytearray()
    while not seen.endswith(mark):
        byte = stream.read(1)
        if not byte:
            return False
        seen = seen[-len(mark) :] + byte
    return True
