"""Messages on a stream socket: a length of eight bytes, then the data, up to a limit that the reader sets."""

from __future__ import annotations

import socket
import time

_HEAD = 8
_PIECE = 1 << 20


class FrameError(OSError):
    """The other side sent something that is not a frame or too much, or closed the stream in the middle of a frame."""


def send_frame(stream: socket.socket, data: bytes) -> None:
    """Send one message."""
    stream.sendall(len(data).to_bytes(_HEAD, "big"))
    stream.sendall(data)


def receive_frame(stream: socket.socket, limit: int, seconds: float | None = None) -> bytes | None:
    """Receive one message.

    Args:
        stream: A connected socket.
        limit: Maximum length in bytes; a longer message is refused before any of it is read.
        seconds: Time for the whole message; ``None`` waits forever.

    Returns:
        The message, or ``None`` if the other side closed the connection between two messages.

    Raises:
        FrameError: See the class.
        TimeoutError: The time is over.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    head = _receive(stream, _HEAD, deadline)
    if not head:
        return None
    length = int.from_bytes(head, "big")
    if len(head) < _HEAD or length > limit:
        raise FrameError(
            f"a message of {length} bytes, but the limit is {limit}" if len(head) == _HEAD else "an incomplete message"
        )
    data = _receive(stream, length, deadline)
    if len(data) < length:
        raise FrameError(f"the stream ended after {len(data)} of {length} bytes")
    return data


def _receive(stream: socket.socket, length: int, deadline: float | None) -> bytes:
    """Read ``length`` bytes, or fewer if the stream ends."""
    pieces: list[bytes] = []
    while length:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("no complete message in time")
            stream.settimeout(left)
        piece = stream.recv(min(length, _PIECE))
        if not piece:
            break
        pieces.append(piece)
        length -= len(piece)
    return b"".join(pieces)
