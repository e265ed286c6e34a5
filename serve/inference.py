"""The way from an agent, or the gateway, to the model app.

The app is reached by its Serve handle, never over HTTP, so this works in any
process that has joined the Ray cluster, an actor's included.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

import structlog
from pydantic import JsonValue, ValidationError

from actors.model import Completion, ModelRequest
from serve.completion import Failure, Reply, Task, WholeAnswer
from serve.errors import (
    ModelBusy,
    ModelError,
    ModelRefused,
    ModelTimeout,
    ModelUnavailable,
    ReplicaLost,
)
from serve.fingerprint import origin_of

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator

    from serve.ports import ChatModel

APP: Final = "model"
EMBEDDING_APP: Final = "embedding"
STREAM_DEADLINE_S: Final = 600.0  # as long as a person waits for one answer
_MODELS_DEADLINE_S: Final = 10.0
_DEPLOYED_WITHIN_S: Final = 60.0
_LOOK_AGAIN_S: Final = 0.5
_BUSY: Final = frozenset({408, 425, 429})  # HTTP: try again later
_SERVER_ERRORS: Final = 500
_NOT_BEGUN: Final = frozenset({425, 429, 503})  # HTTP: not yet, too many, not up


log = structlog.get_logger()


def app_of(profile: str, *, default: str) -> str:
    """The Serve app of a profile, where `default` is the one for every role without its own."""
    return APP if profile == default else f"{APP}-{profile}"


class ModelClient:
    """Asks the model app of this Ray cluster; implements actors.model.Model.

    It pickles, and costs nothing until it is used: the handle is found at the first call, and
    again after a call that found nobody there.
    """

    def __init__(self, *, app: str = APP) -> None:
        self._app = app
        self._handle: DeploymentHandle[Any] | None = None

    def __reduce__(self) -> tuple[object, ...]:
        # A handle belongs to the process that made it.
        return (_client, (self._app,))

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

        The documents are those of serve/completion.py; one that says `error` is passed on like
        any other. Closing the generator before its end stops the model's work on the request.
        A replica that dies before it said anything is replaced by another, once.

        Args:
            request: The JSON body of the request; not checked here.
            deadline_s: Seconds until the last document.
            task: Which kind of request it is.

        Raises:
            ModelBusy: As many requests wait here as may.
            ModelUnavailable: No model app runs, or it broke off.
            ModelTimeout: The deadline passed.
        """
        until = asyncio.get_running_loop().time() + deadline_s
        for may_retry in (True, False):
            sent = False
            try:
                async with aclosing(self._asked(request, task, until, deadline_s)) as documents:
                    async for document in documents:
                        sent = True
                        yield document
            except ReplicaLost as error:
                if sent or not may_retry:
                    raise
                log.info("model.asked_again", app=self._app, reason=str(error))
            except ModelUnavailable as error:
                error.was_asked |= not may_retry  # the first one was
                raise
            else:
                return

    async def _asked(
        self, request: dict[str, JsonValue], task: Task, until: float, deadline_s: float
    ) -> AsyncGenerator[str, None]:
        """What one replica answers."""
        with self._translated(deadline_s):
            async with asyncio.timeout_at(until):
                handle = await self._connect()
            response = cast(
                "DeploymentResponseGenerator[str]",
                getattr(handle.options(stream=True), task).remote(request),
            )
            ended = False
            try:
                while True:
                    async with asyncio.timeout_at(until):
                        document = await anext(response, None)
                    if document is None:
                        ended = True
                        return
                    yield document
            finally:
                if not ended:
                    response.cancel()  # type: ignore[no-untyped-call]

    async def models(self) -> dict[str, JsonValue]:
        """The OpenAI list of the models that the app serves.

        Raises:
            ModelUnavailable: No model app runs.
            ModelTimeout: It did not say within ten seconds.
        """
        with self._translated(_MODELS_DEADLINE_S):
            async with asyncio.timeout(_MODELS_DEADLINE_S):
                handle = await self._connect()
                listed: dict[str, JsonValue] = await handle.models.remote()
                return listed

    async def connect(self) -> None:
        """Do beforehand what the first call would have to: import Serve, find the app.

        Waits for an app that is only being deployed.

        Raises:
            ModelUnavailable: No model app was deployed within a minute.
        """
        until = asyncio.get_running_loop().time() + _DEPLOYED_WITHIN_S
        while True:
            try:
                with self._translated(_DEPLOYED_WITHIN_S):
                    await self._connect()
            except ModelUnavailable:
                if asyncio.get_running_loop().time() > until:
                    raise
                await asyncio.sleep(_LOOK_AGAIN_S)
            else:
                return

    async def _connect(self) -> "DeploymentHandle[Any]":
        if self._handle is None:
            self._handle = await asyncio.to_thread(_find, self._app)
        return self._handle

    @contextmanager
    def _translated(self, deadline_s: float) -> Iterator[None]:
        """Turn Ray's errors into this package's."""
        from ray.exceptions import RayActorError, RayError  # noqa: PLC0415  # see _connect
        from ray.serve.exceptions import BackPressureError, RayServeException  # noqa: PLC0415

        try:
            yield
        except TimeoutError as error:
            raise ModelTimeout(f"no answer from the model within {deadline_s:g} s") from error
        except BackPressureError as error:
            raise ModelBusy("too many requests wait for the model already") from error
        except (RayServeException, RayError) as error:
            self._handle = None
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            kind = ReplicaLost if isinstance(error, RayActorError) else ModelUnavailable
            message = f"the model app {self._app!r} failed: {first}"
            # Serve's own errors are those of a request that it gave to no replica.
            raise kind(message, was_asked=isinstance(error, RayError)) from error


class ServedModels:
    """The models that write and the one that embeds; implements serve.ports.ChatModel.

    Args:
        writing: the app of the agents' model.
        embedding: the app that turns texts into vectors.
        named: the apps of single roles' models, by the name that a request gives.
    """

    def __init__(
        self,
        writing: "ChatModel",
        embedding: ModelClient,
        named: "Mapping[str, ChatModel] | None" = None,
    ) -> None:
        self._writing = writing
        self._embedding = embedding
        self._named = dict(named or {})

    def stream(
        self, request: dict[str, JsonValue], *, deadline_s: float, task: Task = "chat"
    ) -> AsyncGenerator[str, None]:
        """Ask the one that the task is for; see ModelClient.stream."""
        asked = self._named.get(str(request.get("model")), self._writing)
        model = self._embedding if task == "embedding" else asked
        return model.stream(request, deadline_s=deadline_s, task=task)

    async def models(self) -> dict[str, JsonValue]:
        """The OpenAI list of all.

        Raises:
            ModelUnavailable: One of them does not run.
            ModelTimeout: One did not say within ten seconds.
        """
        apps = (self._writing, *self._named.values(), self._embedding)
        lists = await asyncio.gather(*(app.models() for app in apps))
        lines = [line for listed in lists for line in cast("list[JsonValue]", listed["data"])]
        return {"object": "list", "data": lines}


def _find(app: str) -> "DeploymentHandle[Any]":
    """Blocks for two seconds the first time, and while it asks the Serve controller."""
    from ray import serve  # noqa: PLC0415  # seconds, which importers need not pay

    return serve.get_app_handle(app)


def chat_request(request: ModelRequest) -> dict[str, JsonValue]:
    """The OpenAI chat request for what a model is asked."""
    chat: dict[str, JsonValue] = {
        "messages": [{"role": one.role, "content": one.content} for one in request.messages],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
    }
    if request.schema is not None:
        chat["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": dict(request.schema), "strict": True},
        }
    return chat


async def whole_answer(documents: AsyncGenerator[str, None]) -> Completion:
    """What a request that is not streamed is answered with.

    Raises:
        ModelUnavailable: There is no answer, or it says that the model failed.
        ModelRefused: It says that the request is at fault.
    """
    async with aclosing(documents):
        async for document in documents:
            return completion(document)
    raise ModelUnavailable("the model app answered nothing", was_asked=True)


def completion(document: str) -> Completion:
    """Read the one document that answers a request which is not streamed.

    Raises:
        ModelRefused: It says that the request is at fault.
        ModelUnavailable: It says that the model failed, or is not such a document.
    """
    try:
        reply = Reply.model_validate_json(document)
        if reply.error is not None:
            raise failure(reply.error)
        answer = WholeAnswer.model_validate_json(document)
    except ValidationError as error:
        message = "the model app answered something else than a completion"
        raise ModelUnavailable(message, was_asked=True) from error
    first, origin = answer.choices[0], origin_of(answer.system_fingerprint)
    return Completion(
        text=first.message.content or "",
        prompt_tokens=answer.usage.prompt_tokens,
        completion_tokens=answer.usage.completion_tokens,
        model=answer.model,
        truncated=first.finish_reason == "length",
        engine=origin.engine,
        provider=origin.provider,
    )


def failure(said: Failure) -> ModelError:
    """The error that an `error` object amounts to."""
    if said.code in _BUSY or said.code >= _SERVER_ERRORS:
        return ModelUnavailable(said.message, was_asked=said.code not in _NOT_BEGUN)
    return ModelRefused(said.message)


def _client(app: str) -> ModelClient:
    return ModelClient(app=app)
