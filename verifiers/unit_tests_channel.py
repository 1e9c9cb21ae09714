"""Messages between judge and candidate: a length, then a plain value. Standard library only: runs in the sandbox."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from typing import Any

from flywheel.verifiers.sandbox import codec

_HEAD = struct.Struct("<I")


class Broken(Exception):
    """The other side closed the connection, or sent what is no message."""


def send(connection: socket.socket, value: Any, strange: Callable[[Any], int] | None = None) -> None:
    """One message. Raises CodecError for what cannot cross (nothing is sent then), Broken where nobody listens."""
    data = codec.encode(value, strange)
    try:
        connection.sendall(_HEAD.pack(len(data)) + data)
    except OSError as error:
        raise Broken(str(error)) from None


def receive(connection: socket.socket, strange: Callable[[int], Any] | None = None) -> Any:
    """The next message. Raises Broken at the end of the connection, and for anything that is no value."""
    size = _HEAD.unpack(_exactly(connection, _HEAD.size))[0]
    if size > codec.LARGEST:
        raise Broken(f"a message of {size} bytes")
    try:
        return codec.decode(_exactly(connection, size), strange)
    except (codec.CodecError, MemoryError, RecursionError) as error:
        raise Broken(str(error)) from None


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        try:
            part = connection.recv(min(count - len(parts), 1 << 20))
        except OSError as error:
            raise Broken(str(error)) from None
        if not part:
            raise Broken("it closed the connection")
        parts += part
    return bytes(parts)


def anything_waiting(connection: socket.socket) -> bool:
    """Whether something has arrived that nobody asked for."""
    try:
        return bool(connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return False
    except OSError:
        return True


def read_all(descriptor: int) -> Any:
    """The value that a file holds from its start, which is then closed."""
    with open(descriptor, "rb") as file:
        file.seek(0)
        return codec.decode(file.read())


def memory_file(value: Any) -> int:
    """A descriptor of a file in memory that holds `value`."""
    descriptor = os.memfd_create("flywheel", os.MFD_CLOEXEC)
    data = memoryview(codec.encode(value))
    while data:
        data = data[os.write(descriptor, data) :]
    return descriptor
