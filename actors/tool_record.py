"""The calls of tools that an attempt made, read from the log and given again. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic_core import to_json

from actors.errors import CannotCheck, ModelAsked
from actors.tool import Tool
from actors.toolbox import Came, Wanted
from bus.event import StoredEvent
from bus.received import Received
from bus.tool_payloads import ToolAnswered, ToolCalled


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCall:
    """A call, and what came of it."""

    wanted: Wanted
    came: Came

    @property
    def turn(self) -> str:
        """What the model wrote to make it, but for white space and order."""
        return to_json({"call": self.wanted.tool, "arguments": self.wanted.arguments}).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTools:
    """Gives what the log holds, and calls nothing; implements `AtHand`."""

    tools: tuple[Tool, ...]
    calls: Sequence[RecordedCall]

    async def use(self, wanted: Wanted, number: int) -> Came:  # noqa: ARG002 - the record has it
        """What came of the call with that number.

        Raises:
            ModelAsked: the log has no such call.
        """
        if number > len(self.calls):
            raise ModelAsked
        return self.calls[number - 1].came


def calls_in(events: Sequence[Received], claim: str) -> tuple[RecordedCall, ...]:
    """The calls of the attempt with that claim, in their order, among the events of its run.

    Raises:
        CannotCheck: nobody can read any more what was called, or what came of it.
    """
    stored = [each for each in events if isinstance(each, StoredEvent)]
    kinds = (ToolCalled.TYPE, ToolAnswered.TYPE)
    by_cause = {each.event.cause: each for each in stored if each.event.type == kinds[1]}
    found = []
    for called in (each for each in stored if each.event.type == kinds[0]):
        if called.event.cause != claim:
            continue
        answered = by_cause.get(called.event.id)
        if answered is None or called.event.is_withheld or answered.event.is_withheld:
            raise CannotCheck("what a tool was asked, or what it answered, cannot be read any more")
        found.append(_call(called, answered))
    return tuple(found)


def _call(called: StoredEvent, answered: StoredEvent) -> RecordedCall:
    wanted, came = called.payload(), answered.payload()
    if not isinstance(wanted, ToolCalled) or not isinstance(came, ToolAnswered):
        raise CannotCheck("a call of a tool, or its answer, is not what its type says")
    return RecordedCall(
        wanted=Wanted(tool=wanted.tool, arguments=wanted.arguments),
        came=Came(outcome=came.outcome, result=came.result, code=came.code, message=came.message),
    )
