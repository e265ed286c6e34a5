"""The model as an agent may ask it: the policy of its role stands before every question.

What an agent's own Python does besides is not asked here: a library that it brings along
reaches what the machine lets it reach.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from actors.model import Completion, Model, ModelRequest, WithFallback
from policies.capabilities import Capabilities
from policies.errors import CallDenied, RateExceeded
from policies.pace import Pace

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who asks, and whom: one of so many agents of a role, the model of that name."""

    role: str
    model: str
    agents: int = 1


class PolicedModel:
    """Asks another model whatever the policy lets the role ask; implements `Model`.

    The requests of a minute are shared out among the agents of a role.
    """

    def __init__(
        self,
        model: Model,
        asker: Asker,
        policy: Capabilities,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._asker = asker
        self._policy = policy
        self._model = model.permitted(self._may) if isinstance(model, WithFallback) else model
        limit = policy.spend(asker.role).requests_per_minute
        self._pace = Pace(limit, sharers=asker.agents)
        self._monotonic = monotonic
        self._sleep = sleep

    async def connect(self) -> None:
        """Get ready, as `Model.connect` promises."""
        await self._model.connect()

    async def complete(self, request: ModelRequest) -> Completion:
        """Answer, as `Model.complete` promises; a role that asks too often is made to wait.

        Raises:
            CallDenied: the role may not ask this model, or another one answered that it may
                not ask either.
            RateExceeded: the role may not ask again before the deadline.
        """
        self._refuse(self._asker.model)
        waited_s = await self._wait(request.deadline_s)
        left = replace(request, deadline_s=request.deadline_s - waited_s)
        completion = await self._model.complete(left)
        self._refuse(completion.model)
        return completion

    def _may(self, model: str) -> bool:
        return self._policy.call_refusal(self._asker.role, "model", model) is None

    def _refuse(self, model: str) -> None:
        refusal = self._policy.call_refusal(self._asker.role, "model", model)
        if refusal is not None:
            raise CallDenied(refusal)
        if self._pace.allows_none:
            raise CallDenied(f"role {self._asker.role!r} may make no requests")

    async def _wait(self, deadline_s: float) -> float:
        """Seconds that were waited; nobody else of this agent may go in between."""
        began = self._monotonic()
        while (wait_s := self._pace.wait_s(self._monotonic())) > 0:
            if self._monotonic() - began + wait_s >= deadline_s:
                role = self._asker.role
                raise RateExceeded(f"role {role!r} may not ask again for {wait_s:.1f} s")
            await self._sleep(wait_s)
        now = self._monotonic()
        self._pace.done(now)
        return now - began
