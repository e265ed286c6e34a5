"""Talking to the gateway: one deadline per call, repeats only where a repeat does no harm."""

import asyncio
import math
import ssl
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from swarm.answer import check, parse, translated
from swarm.errors import (
    ClientError,
    NotAuthenticated,
    NotReachable,
    Refused,
    SwarmClosed,
    Unavailable,
)

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 5.0
PATIENCE_S: Final = 180.0
"""A whole swarm that starts again with a model on CPU is back within a minute or two."""
NO_TOKEN: Final = ""
FAREWELL_S: Final = 2.0
"""For ending the session on close; one that is not ended ends by itself."""
SILENCE_S: Final = 35.0
"""An open stream says something every ten seconds; after three of those it is dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A user name and password, or a token or API key, or both; none of it shows in the repr.

    A refresh token comes with the answer to a login, and is of a session of our own.
    """

    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)

    @property
    def renewable(self) -> bool:
        """Whether a new token can be got."""
        return bool(self.refresh_token or (self.username and self.password))


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What to ask of the gateway; the path is below its address."""

    method: str
    path: str
    json: Mapping[str, JsonValue] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


class _Login(BaseModel):
    model_config = ConfigDict(extra="ignore")
    access_token: str = Field(repr=False)
    refresh_token: str = Field("", repr=False)


class Gateway:
    """A connection to one gateway. Use it on one event loop.

    Args:
        url: its address.
        credentials: how to log in.
        timeout_s: for one call, its repeats included.
        patience_s: for a gateway that went away while a run was followed.
        transport: another way to reach it, for tests.
        tls: whom to trust, for https; None: whom the system trusts.
    """

    def __init__(
        self,
        url: str,
        credentials: Credentials,
        *,
        timeout_s: float,
        patience_s: float = PATIENCE_S,
        transport: httpx.AsyncBaseTransport | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        self.patience_s = patience_s
        self._credentials = credentials
        self._login = asyncio.Lock()
        self._client = httpx.AsyncClient(
            base_url=self.url,
            transport=transport,
            timeout=timeout_s,
            verify=True if tls is None else tls,
            trust_env=not _is_loopback(url),  # a proxy has no business between us and ourselves
        )

    async def aclose(self) -> None:
        """End the session, if one was begun here, and close all connections; open streams end."""
        if self._credentials.refresh_token and not self._client.is_closed:
            with suppress(ClientError, httpx.HTTPError, TimeoutError):
                async with asyncio.timeout(min(FAREWELL_S, self.timeout_s)):
                    await self._attempt(Call(method="POST", path="/auth/logout"))
        await self._client.aclose()

    async def authenticate(self) -> None:
        """Prove who is calling, without repeats: to learn soon that nobody is there.

        Raises:
            NotReachable: nobody is there.
            NotAuthenticated: the credentials are not accepted.
        """
        with translated(self.url):
            async with asyncio.timeout(self.timeout_s):
                if self._credentials.renewable:
                    await self._renew(self._credentials.token)
                else:
                    await self._attempt(Call(method="GET", path="/auth/validate"))

    async def call(
        self, call: Call, *, repeatable: bool = True, timeout_s: float | None = None
    ) -> bytes:
        """Make a call and read the whole answer.

        Args:
            call: what to ask.
            repeatable: whether it may be sent again when it is not known to have arrived.
            timeout_s: instead of the gateway's.

        Raises:
            ClientError: of the kind that the answer, or its absence, means.
        """
        pause = Pause()
        last: ClientError = NotReachable(f"The gateway at {self.url} did not answer in time.")
        try:
            async with asyncio.timeout(timeout_s or self.timeout_s):
                while True:
                    try:
                        with translated(self.url):
                            return (await self._exchange(call, silence_s=timeout_s)).content
                    except (NotReachable, Unavailable) as error:
                        if not (repeatable or _was_not_done(error)):
                            raise
                        last = error
                        await pause.after(error)
        except TimeoutError as error:
            raise last from error

    @asynccontextmanager
    async def stream(
        self, call: Call, *, silence_s: float = SILENCE_S
    ) -> AsyncGenerator[httpx.Response, None]:
        """Make a call; its answer, if it is not a refusal, is still to be read.

        Args:
            call: what to ask.
            silence_s: most between two pieces of the answer.

        Raises:
            ClientError: of the kind that the answer, its absence or its breaking off means.
        """
        with translated(self.url):
            response = await self._exchange(call, silence_s=silence_s, stream=True)
            async with aclosing(response):
                yield response

    async def _exchange(
        self, call: Call, *, silence_s: float | None = None, stream: bool = False
    ) -> httpx.Response:
        """Send a request; once more with a new token if the old one is not accepted."""
        token = self._credentials.token
        try:
            return await self._attempt(call, silence_s=silence_s, stream=stream)
        except NotAuthenticated:
            if not self._credentials.renewable:
                raise
        await self._renew(token)
        return await self._attempt(call, silence_s=silence_s, stream=stream)

    async def _attempt(
        self, call: Call, *, silence_s: float | None = None, stream: bool = False
    ) -> httpx.Response:
        if self._client.is_closed:
            raise SwarmClosed
        response = await self._client.send(self._request(call, silence_s), stream=stream)
        try:
            await check(response)
        except ClientError:
            await response.aclose()
            raise
        return response

    def _request(self, call: Call, silence_s: float | None) -> httpx.Request:
        try:
            return self._client.build_request(
                call.method,
                call.path,
                json=call.json,
                headers={**call.headers, "Authorization": f"Bearer {self._credentials.token}"},
                timeout=httpx.Timeout(self.timeout_s, read=silence_s or self.timeout_s),
            )
        except UnicodeEncodeError as error:
            raise Refused("Something of the request is not text that can be sent.") from error

    async def _renew(self, refused_token: str) -> None:
        """Get a new token, unless another call has done so since that one was sent.

        By the refresh token where there is one; by the password where there is none, or its
        session has ended: its answer may have been lost on the way, and it works once.
        """
        async with self._login:
            if self._credentials.token != refused_token:
                return
            if self._credentials.refresh_token and await self._refreshed():
                return
            if not (self._credentials.username and self._credentials.password):
                raise NotAuthenticated("The session has ended: log in again.")
            body = {
                "username": self._credentials.username,
                "password": self._credentials.password,
            }
            response = await self._client.post("/auth/login", json=body)
            await check(response)
            self._adopt(response)

    async def _refreshed(self) -> bool:
        body = {"refresh_token": self._credentials.refresh_token}
        response = await self._client.post("/auth/refresh", json=body)
        if response.status_code == httpx.codes.UNAUTHORIZED:
            self._credentials = replace(self._credentials, refresh_token=NO_TOKEN)
            return False
        await check(response)
        self._adopt(response)
        return True

    def _adopt(self, response: httpx.Response) -> None:
        given = parse(_Login, response.content)
        self._credentials = replace(
            self._credentials, token=given.access_token, refresh_token=given.refresh_token
        )


class Pause:
    """Waits between attempts, longer each time; loses patience when all fail for too long."""

    def __init__(self, patience_s: float = math.inf) -> None:
        self._patience_s = patience_s
        self.start_over()

    def start_over(self) -> None:
        """There was progress."""
        self._next_s = FIRST_PAUSE_S
        self.answered()

    def answered(self) -> None:
        """Somebody is there, if no more than that."""
        self._deadline = time.monotonic() + self._patience_s

    async def after(self, error: ClientError) -> None:
        """Wait before the next attempt, or raise the error if there have been enough."""
        asked_s = error.retry_after_s if isinstance(error, Unavailable) else None
        wait_s = max(self._next_s, min(asked_s or 0.0, LONGEST_PAUSE_S))
        if time.monotonic() + wait_s > self._deadline:
            raise error
        await asyncio.sleep(wait_s)
        self._next_s = min(self._next_s * 2, LONGEST_PAUSE_S)


def _was_not_done(error: ClientError) -> bool:
    """Whether the gateway itself says that nothing of the request was carried out."""
    return isinstance(error, Unavailable) and error.not_done


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
