"""Asking a server whether it is up, with as little of its protocol as that takes.

Each probe returns a word on what it found and raises NotAnswering, OSError or TimeoutError.
No driver is needed, and none is imported: the supervisor probes while everything else starts.
"""

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import unquote, urlsplit

from cluster.errors import NotAnswering

_CONNECT_TIMEOUT_S = 2.0
_ANSWER_TIMEOUT_S = 5.0
_LARGEST_ANSWER = 1 << 20
_HTTP_OK = 200


UrlProbe = Callable[[str], Awaitable[str]]


async def tcp(host: str, port: int) -> str:
    """Someone accepts connections."""
    async with _connection(host, port):
        return "accepts connections"


async def nats(url: str) -> str:
    """A NATS server greets with its INFO line."""
    parts = urlsplit(url)
    async with _connection(parts.hostname or "", parts.port or 4222) as (reader, _):
        line = await reader.readline()
    if not line.startswith(b"INFO {"):
        raise NotAnswering("What answers is not a NATS server.")
    greeting = json.loads(line[5:])
    if not greeting.get("jetstream"):
        raise NotAnswering("The NATS server runs without JetStream.")
    return f"NATS {greeting.get('version', '')}"


async def postgres(url: str) -> str:
    """A Postgres server answers a startup message; it may still refuse the password.

    The startup message asks for a database that the server then checks, so "the system is
    starting up" is told from a server that is ready.
    """
    parts = urlsplit(url)
    fields = f"user\0{unquote(parts.username or 'postgres')}\0database\0{parts.path[1:]}\0\0"
    body = (196608).to_bytes(4, "big") + fields.encode()
    async with _connection(parts.hostname or "", parts.port or 5432) as (reader, writer):
        writer.write((len(body) + 4).to_bytes(4, "big") + body)
        await writer.drain()
        kind = await reader.readexactly(1)
        if kind == b"E":
            length = int.from_bytes(await reader.readexactly(4), "big")
            error = await reader.readexactly(min(length - 4, 4096))
            code = re.search(rb"\0C(\w{5})\0", b"\0" + error)
            if code is None or code[1] != b"28000":  # 28000: wants TLS; it is up
                message = re.search(rb"\0M([^\0]*)\0", error)
                raise NotAnswering((message[1] if message else b"refused").decode(errors="replace"))
        elif kind != b"R":
            raise NotAnswering("What answers is not a Postgres server.")
    return "accepts logins"


async def redis(url: str) -> str:
    """A Redis or Valkey server answers PING, after the login where the URL has one."""
    parts = urlsplit(url)
    tls = ssl.create_default_context() if parts.scheme == "rediss" else None
    async with _connection(parts.hostname or "", parts.port or 6379, tls) as (reader, writer):
        if parts.password:
            login = ["AUTH", unquote(parts.password)]
            if parts.username:
                login.insert(1, unquote(parts.username))
            writer.write(_command(*login))
            answer = await reader.readline()
            if not answer.startswith(b"+OK"):
                raise NotAnswering("The login was refused.")
        writer.write(_command("PING"))
        if not (await reader.readline()).startswith(b"+PONG"):
            raise NotAnswering("PING was not answered with PONG.")
    return "answers PING"


async def qdrant(url: str) -> str:
    """A Qdrant server says that it is ready."""
    await http(f"{url.rstrip('/')}/readyz")
    return "ready"


async def http(url: str, *, token: str | None = None, tls: ssl.SSLContext | None = None) -> str:
    """The body of a GET that is answered with 200.

    Args:
        url: http or https.
        token: sent as a bearer token.
        tls: whom to trust, for https; None: whom the system trusts.
    """
    parts = urlsplit(url)
    tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
    host = parts.hostname or ""
    port = parts.port or (443 if tls else 80)
    head = f"GET {parts.path or '/'} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n"
    if token is not None:
        head += f"Authorization: Bearer {token}\r\n"
    async with _connection(host, port, tls) as (reader, writer):
        writer.write(f"{head}\r\n".encode())
        answer = await reader.read(_LARGEST_ANSWER)
        while chunk := await reader.read(_LARGEST_ANSWER):
            answer += chunk
            if len(answer) > _LARGEST_ANSWER:
                break
    found = re.match(rb"HTTP/1\.\d (\d{3})", answer)
    _, _, body = answer.partition(b"\r\n\r\n")
    if found is None:
        raise NotAnswering("What answers does not speak HTTP.")
    if int(found[1]) != _HTTP_OK:
        raise NotAnswering(
            f"HTTP status {found[1].decode()}: {body[:200].decode(errors='replace')}"
        )
    return body.decode(errors="replace")


def _command(*words: str) -> bytes:
    parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
    return f"*{len(words)}\r\n{''.join(parts)}".encode()


@asynccontextmanager
async def _connection(
    host: str, port: int, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with asyncio.timeout(_CONNECT_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(host, port, ssl=tls, limit=_LARGEST_ANSWER)
    try:
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            yield reader, writer
    except (asyncio.IncompleteReadError, ValueError) as error:
        raise NotAnswering("The connection was closed in the middle of an answer.") from error
    finally:
        writer.transport.abort()
