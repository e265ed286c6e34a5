"""An outside provider that answers where the swarm's own engine does not, by OpenAI's API.

Its key is read from a file of this user's when it is first used, travels in one header, and is
written nowhere. What the provider says of an error is not repeated: it may quote the key.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from pydantic import JsonValue

from serve.completion import Task, object_in
from serve.errors import ModelTimeout, ProviderFailed
from serve.fingerprint import fallback_fingerprint

CONNECT_S: Final = 5.0
MAX_BYTES: Final = 8 * 1024 * 1024
"""Of a whole answer; a provider that goes on and on is cut off."""
MAX_LINE_BYTES: Final = 1024 * 1024
"""Of one piece of a stream."""
_PATHS: Final[dict[Task, str]] = {"chat": "/chat/completions", "completion": "/completions"}
_PREFIX: Final = "data:"
_END: Final = "[DONE]"
_EVERY_CHUNK: Final = "continuous_usage_stats"
_OK: Final = 200
_NO_CONNECTION: Final = (httpx.ConnectError, httpx.ConnectTimeout)
_REASONS: Final = {
    401: "does not accept the key",
    403: "does not allow this with the key",
    404: "has no such model or path",
    429: "has too much to do, or the key has no credit",
}
"""Of a provider that did nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FallbackConfig:
    """Where a provider is; pickles, and holds no secret.

    Attributes:
        name: what it is called in events and headers.
        url: what `/chat/completions` is appended to.
        model: the model to ask, by the provider's name for it.
        key_file: holds the API key; None for a provider that wants none.
    """

    name: str
    url: str
    model: str
    key_file: Path | None = None


def _understood(request: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The request without what vLLM alone knows: a count of tokens in every chunk."""
    options = request.get("stream_options")
    if not isinstance(options, dict):
        return request
    kept = {name: value for name, value in options.items() if name != _EVERY_CHUNK}
    return {**request, "stream_options": kept}


class Provider:
    """Asks one provider. It pickles, and opens nothing until it is used.

    Args:
        config: where it is.
        transport: another way to reach it, for tests.
    """

    def __init__(
        self, config: FallbackConfig, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.config = config
        self._transport = transport

    def __repr__(self) -> str:
        return f"Provider({self.config.name!r}, {self.config.model!r})"

    async def stream(
        self, request: dict[str, JsonValue], *, deadline_s: float, task: Task = "chat"
    ) -> AsyncGenerator[str, None]:
        """Pass an OpenAI request on, and its documents back, marked as the provider's.

        Args:
            request: the JSON body; its model is replaced by the provider's.
            deadline_s: seconds until the last document.
            task: a chat or a completion.

        Raises:
            ProviderFailed: it refused, failed, or answered something else. Unless it refused or
                could not be connected to, it may have done the work, and charge for it.
            ModelTimeout: the deadline passed.
        """
        until = asyncio.get_running_loop().time() + deadline_s
        body = {**_understood(request), "model": self.config.model}
        with self._translated(deadline_s):
            async with asyncio.timeout_at(until):
                headers = await asyncio.to_thread(self._headers)
            client = httpx.AsyncClient(
                transport=self._transport, timeout=httpx.Timeout(deadline_s, connect=CONNECT_S)
            )
            url = self.config.url.rstrip("/") + _PATHS[task]
            posted = client.build_request("POST", url, json=body, headers=headers)
            async with client:
                async with asyncio.timeout_at(until):
                    response = await client.send(posted, stream=True)
                try:
                    self._check(response)
                    read = _events if request.get("stream") else _whole
                    async with aclosing(read(response)) as documents:
                        while True:
                            async with asyncio.timeout_at(until):
                                document = await anext(documents, None)
                            if document is None:
                                return
                            yield self._marked(document)
                finally:
                    await response.aclose()

    def _headers(self) -> dict[str, str]:
        if self.config.key_file is None:
            return {}
        key = self.config.key_file.read_text().strip()
        if not is_key(key):
            raise ProviderFailed(f"the key for {self.config.name} is none that a header takes")
        return {"Authorization": f"Bearer {key}"}

    def _check(self, response: httpx.Response) -> None:
        if response.status_code != _OK:
            status = response.status_code
            why = _REASONS.get(status, "refused or failed")
            message = f"{self.config.name} {why} (HTTP {status})"
            raise ProviderFailed(message, was_asked=status not in _REASONS)

    def _marked(self, text: str) -> str:
        """A document that says whose it is.

        Raises:
            ProviderFailed: it is no piece of an answer.
        """
        failed = ProviderFailed(f"{self.config.name} answered something else than a completion")
        document = object_in(text)
        if document is None or not isinstance(document.get("choices"), list):
            raise failed
        theirs = document.get("system_fingerprint")
        mark = fallback_fingerprint(self.config.name, theirs)
        try:
            return json.dumps({**document, "model": self.config.model, "system_fingerprint": mark})
        except RecursionError as error:  # where it could just be read
            raise failed from error

    @contextmanager
    def _translated(self, deadline_s: float) -> Iterator[None]:
        name = self.config.name
        try:
            yield
        except TimeoutError as error:
            raise ModelTimeout(f"no answer from {name} within {deadline_s:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            is_late = isinstance(error, httpx.TimeoutException)
            why = " in time" if is_late else f": {type(error).__name__}"
            was_asked = not isinstance(error, _NO_CONNECTION)
            raise ProviderFailed(f"{name} cannot be reached{why}", was_asked=was_asked) from error
        except (OSError, UnicodeError):  # which may quote the key
            raise ProviderFailed(f"the key for {name} cannot be used on this node") from None


def is_key(text: str) -> bool:
    """Whether a text can be a key: printable ASCII without spaces."""
    return bool(text) and text.isascii() and text.isprintable() and " " not in text


async def _whole(response: httpx.Response) -> AsyncGenerator[str, None]:
    """The one document of an answer that is not streamed."""
    yield b"".join([chunk async for chunk in _bounded(response)]).decode(errors="replace")


async def _events(response: httpx.Response) -> AsyncGenerator[str, None]:
    """The documents of server-sent events.

    Raises:
        ProviderFailed: they ended before the answer did.
    """
    rest = b""
    async for chunk in _bounded(response):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            text = line.decode(errors="replace").strip()
            if not text.startswith(_PREFIX):
                continue  # a comment, a name, the end of an event
            data = text.removeprefix(_PREFIX).strip()
            if data == _END:
                return
            yield data
        if len(rest) > MAX_LINE_BYTES:
            raise ProviderFailed(f"a piece of the provider's answer is over {MAX_LINE_BYTES} bytes")
    raise ProviderFailed("the provider's answer broke off")


async def _bounded(response: httpx.Response) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in response.aiter_bytes():
        size += len(chunk)
        if size > MAX_BYTES:
            raise ProviderFailed(f"the provider's answer is over {MAX_BYTES} bytes")
        yield chunk
