"""What a run needs to know of one verified event."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from bus.event import StoredEvent
from bus.payloads import Payload

COORDINATOR: Final = "coordinator"
"""The role whose assignments, refusals, questions and run ends count."""
GATEWAY: Final = "gateway"
"""The role that says what people ask for."""

Mark = tuple[str, str, str]
"""Role, agent and id of an event: what nobody else can use up by sending the same id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """What a run needs to know of one verified event.

    Attributes:
        id: of the event.
        run: the run it belongs to.
        role: the sender's, as its credential says.
        agent: the sender's name, as its credential says.
        time: when the sender says it signed, in UTC.
        payload: the typed payload.
        cause: id of the event it answers.
        on_behalf_of: the user, where there is one.
        sealed_for: the person whose key opened it, if it was sealed.
        is_withheld: whether it was not opened: the payload says nothing that is personal.
        traceparent: W3C trace context of the sender's span.
    """

    id: str
    run: str
    role: str
    agent: str
    time: datetime
    payload: Payload
    cause: str | None = None
    on_behalf_of: str | None = None
    sealed_for: str | None = None
    is_withheld: bool = False
    traceparent: str | None = None

    @property
    def mark(self) -> Mark:
        """What makes this fact the same as another.

        Coordinators speak with one voice, and so do gateways: whichever of them says a
        thing under its id, it is said.
        """
        agent = "" if self.role in (COORDINATOR, GATEWAY) else self.agent
        return self.role, agent, self.id


def fact_of(stored: StoredEvent) -> Fact:
    """The fact that a verified event states.

    Raises:
        MalformedEvent: the payload does not fit its type.
    """
    event = stored.event
    return Fact(
        id=event.id,
        run=event.run,
        role=event.role,
        agent=event.agent,
        time=event.time,
        payload=stored.payload(),
        cause=event.cause,
        on_behalf_of=event.on_behalf_of,
        sealed_for=event.sealed_for,
        is_withheld=event.is_withheld,
        traceparent=event.traceparent,
    )


def later(moment: datetime, seconds: float) -> datetime:
    """The moment so many seconds later; the last one there is, if that is out of range."""
    try:
        return moment + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
