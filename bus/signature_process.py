"""Checks Ed25519 signatures for the process that started it, until that one is gone.

Runs as a file, with PyNaCl and nothing of the project, so that it starts anywhere at once. What
it is asked on its standard input, a socket, and what it answers there:

    request: how many, 4 bytes; for each the public key (32 bytes), the signature (64 bytes),
        the length of the message (4 bytes) and the message
    answer: a byte for each, 1 where the signature is good

Numbers are big-endian.
"""

import signal
import socket
import struct
import sys
from contextlib import suppress
from typing import BinaryIO

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

ITEM = struct.Struct(">32s64sI")
COUNT = struct.Struct(">I")


def answer(stream: BinaryIO) -> bytes:
    """What is to be said to the next request.

    Raises:
        EOFError: nobody asks any more.
    """
    (count,) = COUNT.unpack(_exactly(stream, COUNT.size))
    verdicts = bytearray()
    for _ in range(count):
        public, signature, length = ITEM.unpack(_exactly(stream, ITEM.size))
        verdicts.append(_is_good(public, signature, _exactly(stream, length)))
    return bytes(verdicts)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    read = stream.read(size)
    if len(read) < size:
        raise EOFError
    return read


def _is_good(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        VerifyKey(public).verify(message, signature)
    except BadSignatureError:
        return False
    return True


def main() -> None:
    """Answer until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for who started it
    with (
        suppress(EOFError, ConnectionError),
        socket.socket(fileno=sys.stdin.fileno()) as asked,
        asked.makefile("rb") as stream,
    ):
        while True:
            asked.sendall(answer(stream))


if __name__ == "__main__":
    main()
