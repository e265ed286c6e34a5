"""The tools that an agent has at hand: asked of the policy, called, and written down.

Each call is an event before it is made, and what came of it another one, signed by the agent.
What the policy does not allow is not called, and that is an event too.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import structlog
from pydantic import JsonValue
from pydantic_core import to_json

from actors.attempt import Attempt, Desk, place_of
from actors.errors import InvalidTool, ToolError, ToolFailed, ToolMisused
from actors.tool import Tool
from bus.errors import BusError, SwarmError
from bus.event import derive_id
from bus.tool_payloads import MAX_MESSAGE_CHARS, ToolAnswered, ToolCalled
from policies.capabilities import Capabilities
from policies.errors import CallDenied

log = structlog.get_logger()

MAX_RESULT_BYTES: Final = 64 * 1024
"""Of a result as JSON; a longer one is no answer that a model could read."""
MAX_ARGUMENTS_BYTES: Final = 64 * 1024
_CODE_CHARS: Final = 64

Outcome = Literal["answered", "refused", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A call that a model asks for."""

    tool: str
    arguments: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class Came:
    """What came of a call; `code` and `message` are of the error, where there is one."""

    outcome: Outcome
    result: JsonValue = None
    code: str = ""
    message: str = ""


class Toolbox:
    """The tools of an agent of one role."""

    def __init__(
        self,
        role: str,
        tools: Iterable[Tool],
        policy: Capabilities,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Lay them out.

        Raises:
            InvalidTool: two have the same name.
        """
        self._role = role
        self._policy = policy
        self._monotonic = monotonic
        self._tools: dict[str, Tool] = {}
        for each in tools:
            if each.name in self._tools:
                raise InvalidTool(f"role {role} has two tools {each.name}")
            self._tools[each.name] = each

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Those that the policy lets the role call: a model is told of no others."""
        return tuple(
            each
            for each in self._tools.values()
            if self._policy.call_refusal(self._role, "tool", each.name) is None
        )

    async def use(self, desk: Desk, attempt: Attempt, wanted: Wanted, number: int) -> Came:
        """Make a call that a model asks for; what goes wrong with it is for the model to know.

        Args:
            desk: where it is written down.
            attempt: what the agent works on.
            wanted: the call.
            number: counts the calls of the attempt.

        Raises:
            RunEnded: the run was cancelled.
            PublishError: the call could not be stored, and was not made; or its result was not.
        """
        place = place_of(attempt.assigned)
        claim, ordinal = attempt.claim.event.id, str(number)
        called = ToolCalled(
            **place,
            epoch=attempt.epoch,
            call=number,
            tool=wanted.tool,
            arguments=dict(wanted.arguments),
        )
        event = await desk.say(attempt.claim, called, derive_id("tool.called", claim, ordinal))
        begin = self._monotonic()
        came = await self._call(wanted, attempt)
        written = to_json(came.result)
        answered = ToolAnswered(
            **place,
            epoch=attempt.epoch,
            call=number,
            tool=wanted.tool,
            outcome=came.outcome,
            result=came.result,
            digest=hashlib.sha256(written).hexdigest() if came.outcome == "answered" else "",
            code=came.code,
            message=came.message,
            duration_ms=round((self._monotonic() - begin) * 1000),
        )
        await desk.say(event, answered, derive_id("tool.answered", claim, ordinal))
        return came

    async def _call(self, wanted: Wanted, attempt: Attempt) -> Came:
        try:
            return Came(outcome="answered", result=await self._result(wanted, attempt))
        except CallDenied as error:
            return _failed(error, "refused")
        except BusError:
            raise
        except SwarmError as error:
            return _failed(error, "failed")

    async def _result(self, wanted: Wanted, attempt: Attempt) -> JsonValue:
        refusal = self._policy.call_refusal(self._role, "tool", wanted.tool)
        if refusal is not None:
            raise CallDenied(refusal)
        found = self._tools.get(wanted.tool)
        if found is None:
            raise CallDenied(f"role {self._role!r} has no tool {wanted.tool[:128]!r}")
        if len(to_json(wanted.arguments)) > MAX_ARGUMENTS_BYTES:
            raise ToolMisused(f"{found.name}: more than {MAX_ARGUMENTS_BYTES} bytes of arguments")
        try:
            async with asyncio.timeout(found.timeout_s):
                result = await found.call(wanted.arguments, attempt.assigned)
        except TimeoutError as error:
            raise ToolError(f"{found.name} gave no answer within {found.timeout_s:g} s") from error
        size = len(to_json(result))
        if size > MAX_RESULT_BYTES:
            raise ToolFailed(f"{found.name} answered {size} bytes, at most {MAX_RESULT_BYTES}")
        return result


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptTools:
    """A toolbox in use for one attempt; implements `AtHand`."""

    toolbox: Toolbox
    desk: Desk
    attempt: Attempt

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Those that the policy lets the role call."""
        return self.toolbox.tools

    async def use(self, wanted: Wanted, number: int) -> Came:
        """Make a call, as `Toolbox.use` does."""
        return await self.toolbox.use(self.desk, self.attempt, wanted, number)


def _failed(error: SwarmError, outcome: Outcome) -> Came:
    log.warning("tool.failed", code=error.code, outcome=outcome)
    return Came(
        outcome=outcome, code=error.code[:_CODE_CHARS], message=str(error)[:MAX_MESSAGE_CHARS]
    )
