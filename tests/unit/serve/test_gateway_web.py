"""What browsers are told: no page of another origin, nothing cached, nothing framed."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest

import tests.unit.serve.quiet_ray  # noqa: F401  # before what imports ray.serve
from serve.app import create_app
from serve.ports import Web
from tests.unit.serve.fakes import BASE_URL, Fakes

PAGE = "https://app.example"
PREFLIGHT = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type",
}


@asynccontextmanager
async def gateway(web: Web) -> AsyncGenerator[httpx.AsyncClient, None]:
    app = create_app(replace(Fakes().parts(), web=web))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
        yield client


@pytest.mark.parametrize("path", ["/health/live", "/v1/runs", "/nowhere", "/auth/login"])
async def test_every_answer_carries_the_headers_that_close_it_to_browsers(path: str) -> None:
    async with gateway(Web()) as client:
        headers = (await client.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "strict-transport-security" not in headers
    assert "server" not in headers


async def test_by_tls_browsers_are_told_to_stay_with_it() -> None:
    async with gateway(Web(tls=True)) as client:
        headers = (await client.get("/health/live")).headers
    assert headers["strict-transport-security"] == "max-age=31536000"


async def test_no_page_of_another_origin_may_call_unless_it_is_named() -> None:
    async with gateway(Web()) as client:
        asked = await client.options("/v1/runs", headers=PREFLIGHT)
        answered = await client.get("/health/live", headers={"Origin": PAGE})
    assert asked.status_code == 401
    for answer in (asked, answered):
        assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_a_page_that_is_named_may_call_without_cookies() -> None:
    async with gateway(Web(origins=(PAGE,))) as client:
        asked = await client.options("/v1/runs", headers=PREFLIGHT)
        refused = await client.get("/v1/runs", headers={"Origin": PAGE})
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == PAGE
    assert "access-control-allow-credentials" not in asked.headers
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == PAGE
    assert "X-Request-ID" in refused.headers["access-control-expose-headers"]


@pytest.mark.parametrize("origin", ["https://evil.example", "https://app.example.evil", "null"])
async def test_a_page_that_is_not_named_may_not(origin: str) -> None:
    async with gateway(Web(origins=(PAGE,))) as client:
        asked = await client.options("/v1/runs", headers={**PREFLIGHT, "Origin": origin})
        answered = await client.get("/health/live", headers={"Origin": origin})
    assert asked.status_code == 400
    for answer in (asked, answered):
        assert "access-control-allow-origin" not in answer.headers
