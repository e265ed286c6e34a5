"""The Agent: a declared role, typed handlers, and a queue of assignments.

    class Greeter(Agent):
        role = "greeter"

        @handles(StepAssigned)
        async def greet(self, assigned: StepAssigned, delivery: Delivery) -> Verdict: ...

A handler is called with events that were verified, one at a time; its verdict says what
becomes of the assignment.
"""

from collections.abc import Awaitable, Callable
from typing import ClassVar, Self, TypeVar

from actors.memory_client import MemoryService
from actors.model import Model
from bus.log import EventLog
from bus.payloads import Payload
from bus.work import Dead, Delivery, Verdict, WorkQueue

A = TypeVar("A", bound="Agent")
P = TypeVar("P", bound=Payload)
Method = Callable[[A, P, Delivery], Awaitable[Verdict]]

_HANDLES = "_handles_payload"


def handles(model: type[P]) -> Callable[[Method[A, P]], Method[A, P]]:
    """Mark a method as the handler of one type of payload."""

    def mark(method: Method[A, P]) -> Method[A, P]:
        setattr(method, _HANDLES, model)
        return method

    return mark


class Agent:
    """A member of the swarm that takes assignments of one role."""

    role: ClassVar[str] = ""
    handlers: ClassVar[dict[type[Payload], str]] = {}
    """Method names by the payload they handle, those of base classes included."""
    asks_model: ClassVar[bool] = False
    """Whether it begins only once there is a model to ask."""

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        own = {
            model: name
            for name, method in vars(cls).items()
            if (model := getattr(method, _HANDLES, None)) is not None
        }
        cls.handlers = {**cls.handlers, **own}

    def __init__(self, event_log: EventLog) -> None:
        self.log = event_log
        self.memory_service: MemoryService | None = None
        """Who keeps the memory, where somebody does."""

    @classmethod
    def join(cls, event_log: EventLog, model: Model) -> Self:  # noqa: ARG003 - for who asks one
        """Take a place in the swarm."""
        return cls(event_log)

    @property
    def name(self) -> str:
        """The agent's name in events."""
        return self.log.sender.credential.name

    async def run(self, queue: WorkQueue) -> None:
        """Serve the queue until cancelled."""
        await queue.run(self.handle)

    async def handle(self, delivery: Delivery) -> Verdict:
        """Give an assignment to the handler of its type; what no handler takes is dead."""
        payload = delivery.assignment.payload()
        name = self.handlers.get(type(payload))
        if name is None:
            return Dead(reason=f"{type(self).__name__} has no handler for {payload.TYPE}")
        handler: Callable[[Payload, Delivery], Awaitable[Verdict]] = getattr(self, name)
        return await handler(payload, delivery)
