"""How every process of the swarm writes its log: one JSON object a line, on stderr.

Tracebacks carry no local variables: those may hold a password or a prompt.
"""

import sys

import structlog


def configure_logs() -> None:
    """Set structlog up for this process; safe to call again."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
