"""The witness over HTTP: C2SP tlog-witness, and the newest checkpoint for whoever asks.

    POST /add-checkpoint     cosign a checkpoint
    GET  /checkpoint         the checkpoint cosigned last, with the cosignature

Nobody has to be authenticated: what a log asks for it has signed, and what is answered the
witness has. TLS in front of it hides who asks; it adds nothing to what a cosignature proves.
"""

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Final

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from storage.cosign_request import MAX_REQUEST_BYTES
from swarm.witness.errors import WitnessNotUsable
from swarm.witness.state import StateDirectory
from swarm.witness.witness import Answer, Witness

REQUEST_S: Final = 10.0
"""A request is some kilobytes: who takes longer is not a log."""
MOST_CONNECTIONS: Final = 64
"""A log asks once a second, over one connection."""
_TOO_SLOW: Final = Answer(status=408, body="The request took too long.\n")
_TOO_LARGE: Final = Answer(status=413, body="The request is too large.\n")
_NONE_YET: Final = Answer(status=404, body="Nothing was cosigned yet.\n")


def witness_app(witness: Witness, *, request_s: float = REQUEST_S) -> Starlette:
    """The witness as an ASGI application.

    Args:
        witness: who answers; its work is done in threads.
        request_s: how long a request may take to arrive.
    """

    async def add_checkpoint(request: Request) -> Response:
        try:
            async with asyncio.timeout(request_s):
                body = await _body(request)
        except TimeoutError:
            return _response(_TOO_SLOW)
        if body is None:
            return _response(_TOO_LARGE)
        return _response(await asyncio.to_thread(witness.add_checkpoint, body))

    async def checkpoint(_: Request) -> Response:
        note = witness.newest()
        return _response(_NONE_YET if note is None else Answer(status=200, body=note))

    return Starlette(
        routes=[
            Route("/add-checkpoint", add_checkpoint, methods=["POST"]),
            Route("/checkpoint", checkpoint, methods=["GET"]),
        ]
    )


def listen(host: str, port: int) -> socket.socket:
    """A bound socket; port 0 takes a free one.

    Raises:
        WitnessNotUsable: the address is in use or is not ours.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        message = f"Cannot listen on {host}:{port}: {error.strerror or error}."
        raise WitnessNotUsable(message) from error


async def serve(
    state: StateDirectory, bound: socket.socket, *, clock: Callable[[], float] = time.time
) -> None:
    """Answer until SIGTERM or SIGINT; what has begun is answered first."""
    config = uvicorn.Config(
        witness_app(Witness(state, clock)),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
    )
    await uvicorn.Server(config).serve(sockets=[bound])


async def _body(request: Request) -> bytes | None:
    """What was sent; None once it is more than a request can be."""
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_REQUEST_BYTES:
                return None
    except ClientDisconnect:
        return b""
    return bytes(body)


def _response(answer: Answer) -> Response:
    response = Response(answer.body, status_code=answer.status)
    response.headers["content-type"] = answer.media_type
    response.headers["cache-control"] = "no-store"
    return response
