"""The public face: the SDK, the command line.

>>> from swarm import Swarm
>>> with Swarm.connect() as swarm:
...     run = swarm.submit("Write a parser for RFC 3339 timestamps.")
...     run.wait()
...     print(run.result)

`AsyncSwarm` offers the same to asyncio. Importing this package imports neither Ray nor
any database driver.
"""

from swarm.client import AsyncSwarm
from swarm.memory_view import MemoryItem, MemorySearch
from swarm.run import AsyncRun
from swarm.sync import Run, Swarm
from swarm.usage import UsageReport, UsageTotal
from swarm.view import (
    Approval,
    AuditSummary,
    DeadLetter,
    Forked,
    Reply,
    RunEvent,
    RunLine,
    RunStatus,
    StepStatus,
    Usage,
)

__all__ = [
    "Approval",
    "AsyncRun",
    "AsyncSwarm",
    "AuditSummary",
    "DeadLetter",
    "Forked",
    "MemoryItem",
    "MemorySearch",
    "Reply",
    "Run",
    "RunEvent",
    "RunLine",
    "RunStatus",
    "StepStatus",
    "Swarm",
    "Usage",
    "UsageReport",
    "UsageTotal",
]
