"""What passes between a process and its worker."""

import io
import json
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attn_export.exporter import errors
from attn_export.exporter.errors import AttnExportError, RuntimeUnavailableError, StateDictMismatchError
from attn_export.exporter.latency.carried import WorkerError, packed, unpacked
from attn_export.exporter.latency.channel import Message, receive, send, skip_to

HEADS = st.dictionaries(st.text(), st.none() | st.integers() | st.text() | st.floats(allow_nan=False))


def sent(*messages: Message) -> bytes:
    stream = io.BytesIO()
    for message in messages:
        send(stream, message)
    return stream.getvalue()


@given(st.lists(st.builds(Message, HEADS, st.binary(max_size=100)), max_size=4))
def test_messages_arrive_as_they_were_in_their_order_and_then_none(messages: list[Message]) -> None:
    stream = io.BytesIO(sent(*messages))
    assert [receive(stream) for _ in messages] == messages
    assert receive(stream) is None


def test_seconds_arrive_to_the_last_bit() -> None:
    seconds = [0.1 + 0.2, 1e-9, 123456.789012345, 5e-324]
    message = receive(io.BytesIO(sent(Message({"seconds": seconds}))))
    assert message is not None
    assert message.head["seconds"] == seconds


def test_a_message_that_was_cut_off_is_none_at_every_place() -> None:
    whole = sent(Message({"do": "load"}, b"1234567"))
    assert all(receive(io.BytesIO(whole[:length])) is None for length in range(len(whole)))


def test_bytes_that_arrive_may_be_written_to() -> None:
    message = receive(io.BytesIO(sent(Message({}, b"abc"))))
    assert message is not None
    assert isinstance(message.body, bytearray)


def test_a_pipe_gives_what_it_has_and_the_rest_later() -> None:
    reading, writing = os.pipe()
    body = os.urandom(3 * 2**16)  # more than a pipe holds
    with os.fdopen(reading, "rb") as source, os.fdopen(writing, "wb") as sink:
        sender = threading.Thread(target=send, args=(sink, Message({"n": 1}, body)))
        sender.start()
        assert receive(source) == Message({"n": 1}, bytearray(body))
        sender.join()


@pytest.mark.parametrize("before", [b"", b"warning: no GPU\n", b"\x00hel", b"\x00\x00hell", b"\x00hello\x01"])
def test_what_was_printed_before_a_greeting_is_passed_over(before: bytes) -> None:
    stream = io.BytesIO(before + b"\x00hello\x00" + b"rest")
    assert skip_to(stream, b"\x00hello\x00")
    assert stream.read() == b"rest"


def test_a_stream_without_a_greeting_ends() -> None:
    assert not skip_to(io.BytesIO(b"nothing of the kind" * 99), b"\x00hello\x00")


# Errors.

FIELDS = {
    "names": ("os.system",),
    "nearest": "se_resnet18",
    "missing": ("a",),
    "unexpected": (),
    "misshapen": ("b",),
    "tensors": ("c",),
    "module_path": "layer1",
    "step": "merge views",
    "runtime": "onnxruntime",
    "problems": ("x", "y"),
    "first_seen": "layer2",
    "kernels": ("k",),
    "broken": ("z",),
}


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, AttnExportError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_of_ours_arrives_as_what_it_was(kind: type[AttnExportError]) -> None:
    code = kind.__init__.__code__
    wanted = code.co_varnames[2 : 2 + code.co_kwonlyargcount]
    error = kind("it went wrong", hint="Do this.", **{name: FIELDS[name] for name in wanted if name != "hint"})
    got = unpacked(json.loads(json.dumps(packed(error))), "a runtime")
    assert type(got) is kind
    assert vars(got) == vars(error)
    assert isinstance(got.__cause__, WorkerError)
    assert "it went wrong" in str(got.__cause__)


def test_memory_that_ran_out_there_ran_out() -> None:
    assert isinstance(unpacked(packed(MemoryError("no room")), "x"), MemoryError)


@pytest.mark.parametrize("error", [ValueError("a\nb"), KeyError("k"), OSError(5, "Input/output error")])
def test_any_other_error_is_the_runtime_s_and_its_report_comes_along(error: Exception) -> None:
    def go_wrong() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        go_wrong()
    got = unpacked(json.loads(json.dumps(packed(caught.value))), "onnxruntime")
    assert isinstance(got, RuntimeUnavailableError)
    assert got.runtime == "onnxruntime"
    assert got.message.startswith("onnxruntime failed: ")
    assert "\n" not in got.message
    assert "test_channel.py" in str(got.__cause__)


def test_no_name_of_another_thing_is_taken_for_a_class() -> None:
    for name in ("Sequence", "first_line", "__builtins__", "Exception", None):
        told: dict[str, object] = {"class": name, "message": "m", "report": "r", "fields": {}}
        assert type(unpacked(told, "x")) is RuntimeUnavailableError


def test_what_json_has_not_arrives_in_words() -> None:
    error = StateDictMismatchError("m", missing=(), unexpected=(), misshapen=[{1, 2}], nearest=None)  # type: ignore[list-item]
    message = receive(io.BytesIO(sent(Message({"error": packed(error)}))))
    assert message is not None
    got = unpacked(message.head["error"], "x")
    assert isinstance(got, StateDictMismatchError)
    assert got.misshapen == ("{1, 2}",)
