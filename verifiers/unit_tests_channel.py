"""Messages between judge and candidate: a length, then a plain value. Standard library only: runs in the sandbox."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from flywheel.verifiers.sandbox import codec

_HEAD = 4
"""Bytes of a message's length."""
_SMALL, _AT_ONCE = 1 << 12, 1 << 16


class Broken(Exception):
    """The other side closed the connection, or sent what is no message."""


class Channel:
    """One end of a connection on which values go both ways, by its descriptor: a socket object would cost more."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._rest = b""

    def send(self, value: Any, strange: Callable[[Any], int] | None = None) -> None:
        """One message. Raises CodecError for what cannot cross (nothing is sent then), Broken where nobody listens."""
        data = framed(value, strange)
        try:
            sent = os.write(self.descriptor, data)
            while sent < len(data):
                sent += os.write(self.descriptor, memoryview(data)[sent:])
        except OSError as error:
            raise Broken(str(error)) from None

    def receive(self, strange: Callable[[int], Any] | None = None) -> Any:
        """The next message. Raises Broken at the end of the connection, and for anything that is no value."""
        data = self._at_least(self._rest, _HEAD)
        end = _HEAD + int.from_bytes(data[:_HEAD], "little")
        if end > _HEAD + codec.LARGEST:
            raise Broken(f"a message of {end - _HEAD} bytes")
        if len(data) < end:
            data = self._at_least(data, end)
        self._rest = data[end:]
        try:
            return codec.decode(data[_HEAD:end], strange)
        except (codec.CodecError, MemoryError, RecursionError) as error:
            raise Broken(str(error)) from None

    def ends(self) -> bool:
        """Say that nothing more will be sent, and wait; whether the other side ends without another word."""
        try:
            import socket  # here, for candidates have no use for it

            with socket.socket(fileno=os.dup(self.descriptor)) as connection:
                connection.shutdown(socket.SHUT_WR)
            return not self._rest and not os.read(self.descriptor, 1)
        except OSError:
            return not self._rest

    def _at_least(self, data: bytes, count: int) -> bytes:
        """`data`, and what arrives until there are `count` bytes."""
        parts, have = [data], len(data)
        while have < count:
            try:
                part = os.read(self.descriptor, min(max(_SMALL, count - have), _AT_ONCE))
            except OSError as error:
                raise Broken(str(error)) from None
            if not part:
                raise Broken("it closed the connection")
            parts.append(part)
            have += len(part)
        return b"".join(parts)


def framed(value: Any, strange: Callable[[Any], int] | None = None) -> bytes:
    """A message as it crosses. Raises CodecError."""
    data = codec.encode(value, strange)
    return len(data).to_bytes(_HEAD, "little") + data


def read_all(descriptor: int) -> Any:
    """The JSON that a file holds from its start, which is then closed."""
    size = os.fstat(descriptor).st_size
    value = json.loads(os.pread(descriptor, size, 0))
    os.close(descriptor)
    return value


def memory_file(value: Any) -> int:
    """A descriptor of a file in memory that holds `value` as JSON."""
    descriptor = os.memfd_create("flywheel", os.MFD_CLOEXEC)
    data = memoryview(json.dumps(value).encode())
    while data:
        data = data[os.write(descriptor, data) :]
    return descriptor
