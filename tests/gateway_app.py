"""The gateway as a real Serve application, over a real model app and people in memory."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import httpx
import openai

from serve.inference import ModelClient
from serve.ports import GatewayParts
from tests.unit.serve.fakes import PASSWORD, Fakes
from tests.unit.serve.quiet_ray import serve

SETTLED_S = 5.0
"""After which an engine must have let go of what nobody waits for."""


@asynccontextmanager
async def _parts(model_name: str) -> AsyncGenerator[GatewayParts, None]:
    yield replace(Fakes().parts(), model=ModelClient(), model_name=model_name)


def deploy_gateway(model_name: str) -> None:
    """Run it at the root of Serve's proxy; it asks the application `model`."""
    from serve.gateway import deploy  # noqa: PLC0415  # imports Ray

    app = deploy(partial(_parts, model_name), 1_000)
    serve.run(app, name="gateway", route_prefix="/")


@asynccontextmanager
async def program(port: int) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's client as the user uma, who may open as many connections as she likes."""
    url = f"http://127.0.0.1:{port}"
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=120.0) as line:
        login = await line.post("/auth/login", json={"username": "uma", "password": PASSWORD})
        async with openai.AsyncOpenAI(
            base_url=f"{url}/v1",
            api_key=login.json()["access_token"],
            max_retries=0,
            http_client=line,  # type: ignore[arg-type]  # says httpx2, takes both
        ) as client:
            yield client


async def in_work() -> int:
    """How many requests the engine works on."""
    return int(await serve.get_app_handle("model").in_work.remote())


async def until(wanted: int, *, deadline_s: float = SETTLED_S) -> None:
    """Return once the engine works on so many; TimeoutError if it does not come to that."""
    async with asyncio.timeout(deadline_s):
        while await in_work() != wanted:  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(0.02)
