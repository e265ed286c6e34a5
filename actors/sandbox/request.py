"""What the agent tells the process that becomes the sandbox, and what that answers."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from actors.sandbox.outcome import Ending, Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A program to run.

    Attributes:
        arguments: the path of what is executed, as seen inside, and its arguments.
        environment: all that it finds there.
        files: texts by their paths in the work folder.
        shown: folders and files of the machine by where they are seen inside, read only.
        hidden: folders among them that are empty inside.
        uid: the number of a user of the machine that owns nothing, to run as.
        limits: what it may use up.
    """

    arguments: tuple[str, ...]
    environment: dict[str, str]
    files: dict[str, str] = field(repr=False)
    shown: dict[str, str]
    hidden: tuple[str, ...]
    uid: int
    limits: Limits

    def to_json(self) -> bytes:
        """As bytes, from which `from_json` makes an equal one."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Request":
        """Made from bytes that come from this program: they are not checked."""
        told: dict[str, Any] = json.loads(data)
        limits = Limits(**told.pop("limits"))
        arguments, hidden = tuple(told.pop("arguments")), tuple(told.pop("hidden"))
        return cls(arguments=arguments, hidden=hidden, limits=limits, **told)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the warden saw; see `Outcome`. `refused` says what the kernel would not do."""

    ending: Ending = "finished"
    exit_status: int | None = None
    wall_s: float = 0.0
    cpu_s: float = 0.0
    memory_bytes: int = 0
    files: int = 0
    left_behind: int = 0
    refused: str = ""

    def to_json(self) -> bytes:
        """As bytes, from which `from_json` makes an equal one."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "Report":
        """Made from bytes that come from this program: they are not checked."""
        return cls(**json.loads(data))
