"""What the swarm says of a run, as frozen values. Fields added later are ignored, not refused."""

from datetime import datetime
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, JsonValue

_ENDS: Final = frozenset({"swarm.run.completed.v1", "swarm.run.failed.v1"})


class _View(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Usage(_View):
    """Tokens a model read and wrote."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class StepStatus(_View):
    """One step of one round, with its latest attempt."""

    name: str
    iteration: int
    role: str
    status: Literal["assigned", "claimed", "completed", "failed"]
    attempt: int
    agent: str | None = None
    model: str | None = None
    duration_ms: int | None = None
    usage: Usage | None = None


class Failure(_View):
    """Why a run ended without a result."""

    code: str
    message: str
    step: str | None = None


class Submitted(_View):
    """A run that was handed in."""

    id: str


class RunStatus(_View):
    """Where a run stood when it was asked."""

    id: str
    status: Literal["running", "completed", "failed"]
    objective: str
    workflow: str
    model: str
    requested_by: str
    submitted_at: datetime
    ended_at: datetime | None = None
    steps: tuple[StepStatus, ...] = ()
    usage: Usage = Usage()
    result: str | None = None
    """Markdown, once the run is completed."""
    failure: Failure | None = None
    stream_sequence: int
    """The last event that this status knows of; `run.events(after=...)` goes on from there."""

    @property
    def ended(self) -> bool:
        """Whether it is over, one way or the other."""
        return self.status != "running"


class RunEvent(_View):
    """One event of a run. Of one that was refused only the place and the reason are told."""

    stream_sequence: int
    """Its place in the log."""
    stored_at: datetime
    type: str
    """For example "swarm.step.completed.v1"; "refused" for one that must not be acted on."""
    subject: str
    id: str | None = None
    source: str | None = None
    """swarm://<role>/<agent>"""
    time: datetime | None = None
    sequence: int | None = None
    """The sender's own counter."""
    cause: str | None = None
    on_behalf_of: str | None = None
    key: str | None = None
    """The sender's public NKey."""
    signature: str | None = None
    """Ed25519, base64url."""
    payload: dict[str, JsonValue] | None = None
    code: str | None = None
    reason: str | None = None

    @property
    def refused(self) -> bool:
        """Whether the swarm refused to act on it."""
        return self.type == "refused"

    @property
    def ends_run(self) -> bool:
        """Whether it is the last one of its run."""
        return self.type in _ENDS


class AuditSummary(_View):
    """What the audit log has of a run, and the signed checkpoint of the whole log."""

    run: str
    events: int
    signatures_verified: int
    refused: int
    tree_size: int
    root: str
    """Merkle root of the whole log, hex."""
    checkpoint: str | None = None
    """Signed note (C2SP tlog-checkpoint)."""


class Reply(_View):
    """A model's answer."""

    text: str
    model: str = ""
    finish_reason: str | None = None
    usage: Usage = Usage()
