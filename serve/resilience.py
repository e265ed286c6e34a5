"""The swarm's own engine with an outside provider behind it.

A request goes to the engine. It goes on to the provider where the engine is not there (no
replica, a replica that died or failed, an open breaker), where nothing was sent yet, and where
whoever asks may ask the provider's model. A request that is refused as bad, an engine that has
too much to do, and a deadline that passes are answers of their own: they go nowhere else, and do
not count against the engine.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

import structlog
from pydantic import JsonValue, ValidationError

from actors.model import Completion, ModelRequest
from serve.breaker import Breaker, Phase, Rules, abandoned, answered, asked, failed
from serve.completion import Reply, Task
from serve.errors import (
    ModelBusy,
    ModelTimeout,
    ModelUnavailable,
    NobodyAnswered,
)
from serve.fallback import FallbackConfig, Provider
from serve.inference import (
    STREAM_DEADLINE_S,
    ModelClient,
    chat_request,
    failure,
    whole_answer,
)
from serve.presence import OwnEngine, Presence, Watch

log = structlog.get_logger()

MayAsk = Callable[[str], bool]
_TOO_MANY: Final = 429


def nobody_may(_: str) -> bool:
    """Keeps every prompt here: what holds until somebody is permitted more."""
    return False


@dataclass(slots=True)
class Guard:
    """The breaker of this process, and what has become of it; shared by all who ask."""

    rules: Rules = field(default_factory=Rules)
    monotonic: Callable[[], float] = time.monotonic
    breaker: Breaker = field(default_factory=Breaker)
    fallbacks: int = 0
    """Requests that went to the provider."""

    @property
    def phase(self) -> Phase:
        """Where the breaker stands."""
        return self.breaker.phase(self.monotonic(), self.rules)

    def admit(self) -> bool:
        """Whether the engine may be asked; if so, that is noted."""
        now = self.monotonic()
        if not self.breaker.admits(now, self.rules):
            return False
        self.breaker = asked(self.breaker, now, self.rules)
        return True

    def note_answer(self) -> None:
        """The engine is there."""
        if self.breaker.opened_at is not None:
            log.info("breaker.closed")
        self.breaker = answered(self.breaker)

    def note_failure(self, reason: str) -> None:
        """It is not."""
        was_closed = self.breaker.opened_at is None
        self.breaker = failed(self.breaker, self.monotonic(), self.rules)
        if was_closed and self.breaker.opened_at is not None:
            log.warning("breaker.opened", failures=self.breaker.failures, reason=reason[:200])

    def note_nothing(self) -> None:
        """A request ended that shows neither."""
        self.breaker = abandoned(self.breaker)


class ResilientModel:
    """Asks the engine, else the provider; implements `Model`, `WithFallback` and `ChatModel`.

    It pickles; each process has a breaker of its own.

    Args:
        engine: the swarm's own.
        provider: the one behind it.
        may_ask: whether the provider's model may be asked; nobody may unless `permitted`.
        guard: the breaker.
        watch: when the engine is taken for gone.
    """

    def __init__(
        self,
        engine: OwnEngine,
        provider: Provider,
        *,
        may_ask: MayAsk = nobody_may,
        guard: Guard | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._engine = engine
        self._provider = provider
        self._may_ask = may_ask
        self._watch = watch or Watch()
        self._presence = Presence(engine, self._watch)
        self.guard = guard or Guard()

    def __reduce__(self) -> tuple[object, ...]:
        # What was permitted and what was seen belong to the process.
        return (_resilient, (self._engine, self._provider, self._watch))

    def permitted(self, may_ask: MayAsk) -> "ResilientModel":
        """The same for somebody who may ask the models of these names in its place."""
        return ResilientModel(
            self._engine, self._provider, may_ask=may_ask, guard=self.guard, watch=self._watch
        )

    @property
    def is_permitted(self) -> bool:
        """Whether the provider may be asked at all."""
        return self._may_ask(self._provider.config.model)

    def degraded(self) -> str:
        """How the provider stands in for the engine now; empty where it does not."""
        if self.guard.phase == "closed" or not self.is_permitted:
            return ""
        name = self._provider.config.name
        return f"breaker {self.guard.phase}: {name} answers, {self.guard.fallbacks} times so far"

    async def connect(self) -> None:
        """Get ready, as `Model.connect` promises."""
        await self._engine.connect()

    async def models(self) -> dict[str, JsonValue]:
        """The OpenAI list of the engine's own models.

        Raises:
            ModelUnavailable: it does not run.
            ModelTimeout: it did not say in time.
        """
        return await self._engine.models()

    async def complete(self, request: ModelRequest) -> Completion:
        """Continue the conversation, as actors.model.Model promises."""
        stream = self.stream(chat_request(request), deadline_s=request.deadline_s)
        return await whole_answer(stream)

    async def stream(
        self,
        request: dict[str, JsonValue],
        *,
        deadline_s: float = STREAM_DEADLINE_S,
        task: Task = "chat",
    ) -> AsyncGenerator[str, None]:
        """Pass an OpenAI request on, and its documents back as they come.

        Those of the provider say so in `system_fingerprint`.

        Raises:
            ModelBusy: the engine has too much to do.
            ModelUnavailable: the engine is not there, and nobody else may be asked; or it broke
                off.
            NobodyAnswered: neither it nor the provider answered.
            ModelTimeout: the deadline passed.
        """
        if task == "embedding" or not self.is_permitted:
            async with aclosing(
                self._engine.stream(request, deadline_s=deadline_s, task=task)
            ) as documents:
                async for document in documents:
                    yield document
            return
        loop = asyncio.get_running_loop()
        until, sent = loop.time() + deadline_s, False
        try:
            async with aclosing(self._from_engine(request, deadline_s, task)) as documents:
                async for document in documents:
                    sent = True
                    yield document
        except ModelBusy:
            raise
        except ModelUnavailable as error:
            if sent:
                raise
            absence = error
        else:
            return
        left_s = max(0.0, until - loop.time())
        async with aclosing(self._from_provider(request, left_s, task, absence)) as documents:
            async for document in documents:
                yield document

    async def _from_engine(
        self, request: dict[str, JsonValue], deadline_s: float, task: Task
    ) -> AsyncGenerator[str, None]:
        if not self.guard.admit():
            raise ModelUnavailable("the engine failed several times and is left alone for now")
        stream = self._engine.stream(request, deadline_s=deadline_s, task=task)
        async with aclosing(stream) as documents:
            try:
                first = await self._presence.first_of(documents)
                self._raise_if_gone(first)
            except ModelBusy:
                self.guard.note_answer()
                raise
            except ModelUnavailable as error:
                self.guard.note_failure(str(error))
                raise
            except BaseException:
                self.guard.note_nothing()
                raise
            self.guard.note_answer()
            yield first
            try:
                async for document in documents:
                    yield document
            except ModelUnavailable as error:
                self.guard.note_failure(str(error))
                raise

    @staticmethod
    def _raise_if_gone(document: str) -> None:
        """Return if the engine answered, if only that the request is at fault or it is busy.

        Raises:
            ModelUnavailable: it says that it failed.
        """
        if '"error"' not in document:
            return
        try:
            said = Reply.model_validate_json(document).error
        except ValidationError:
            return
        if said is not None and said.code != _TOO_MANY:
            error = failure(said)
            if isinstance(error, ModelUnavailable):
                raise error

    async def _from_provider(
        self, request: dict[str, JsonValue], left_s: float, task: Task, absence: ModelUnavailable
    ) -> AsyncGenerator[str, None]:
        """The provider's answer, in the absence of the engine.

        Raises:
            NobodyAnswered: it has none, and said nothing yet; it was asked if either was.
            ProviderFailed: it broke off.
            ModelTimeout: the deadline passed.
        """
        name, reason, sent = self._provider.config.name, str(absence), False
        self.guard.fallbacks += 1
        log.warning(
            "fallback.used",
            provider=name,
            model=self._provider.config.model,
            breaker=self.guard.phase,
            reason=reason[:200],
        )
        try:
            stream = self._provider.stream(request, deadline_s=left_s, task=task)
            async with aclosing(stream) as documents:
                async for document in documents:
                    sent = True
                    yield document
        except ModelTimeout as error:
            raise ModelTimeout(f"{reason}; and {error}") from error
        except ModelUnavailable as error:
            if sent:
                raise
            message = f"{reason}; and the fallback provider: {error}"
            was_asked = absence.was_asked or error.was_asked
            raise NobodyAnswered(message, was_asked=was_asked) from error


def resilient(engine: ModelClient, config: FallbackConfig | None) -> ModelClient | ResilientModel:
    """The engine, with a provider behind it where there is one."""
    return engine if config is None else ResilientModel(engine, Provider(config))


def _resilient(engine: OwnEngine, provider: Provider, watch: Watch) -> ResilientModel:
    return ResilientModel(engine, provider, watch=watch)
