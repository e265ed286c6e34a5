"""How every process of the swarm writes its log: one JSON object a line, on stderr.

Tracebacks carry no local variables: those may hold a password or a prompt.
"""

import sys
from contextlib import suppress
from typing import TextIO, cast

import structlog


class Unfailing:
    """A stream that loses what cannot be written, and never fails who writes.

    No fault is hidden by it: there is no room left to tell of one here, and whoever keeps data
    finds out by itself that the disk is full, and says so. A log line that failed its caller
    would end what waits for room, and what makes it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write it, or lose it; its length."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Have it leave this process, if it can."""
        with suppress(OSError):
            self._stream.flush()


def configure_logs() -> None:
    """Set structlog up for this process; safe to call again.

    A line that cannot be written is lost; the caller goes on.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", Unfailing(sys.stderr))),
        cache_logger_on_first_use=False,
    )
