"""Every route of the gateway under requests made from, and against, its OpenAPI document."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serve.app import create_app
from serve.ports import Limits
from tests.evidence import small
from tests.unit.serve.fakes import Fakes, ask_approval, complete, fail, give_up, submit

EXAMPLES = 30
"""Of each route, beside those that its schema calls for by itself."""
TURNED_AWAY = {400, 401, 408, 413, 415, 422}
"""What a request is answered that no route has looked at."""
NEEDS_A_SECRET = {"/auth/login", "/auth/refresh", "/auth/password"}
"""Whose secret nobody makes up: there, 401 is a route's own answer."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


async def _with_runs() -> Fakes:
    """A gateway whose log has something to say about ids that examples name."""
    fakes = Fakes()
    for run in ("r1", "r2", "r3"):
        await submit(fakes.log, run)
    await ask_approval(fakes.log, "r1")
    await give_up(fakes.log, "r1")
    await complete(fakes.log, "r2")
    await fail(fakes.log, "r3")
    fakes.have_audited(small(), [1, 4, 10])
    return fakes


def _operations() -> list[tuple[str, str]]:
    document = create_app(Fakes().parts()).openapi()
    return [(path, method) for path, methods in document["paths"].items() for method in methods]


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """The document, and an admin's way past the door: a new one each time, as some routes
    close the door behind them."""

    document: BaseSchema
    fakes: Fakes
    app: FastAPI

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.fakes.token('ada')}"}


@pytest.fixture(scope="module")
def gateway() -> Gateway:
    fakes = asyncio.run(_with_runs())
    limits = Limits(heartbeat_s=0.01, stream_life_s=0.02, chat_timeout_s=1.0, call_timeout_s=5.0)
    app = create_app(fakes.parts(limits))
    headers = {"Authorization": f"Bearer {fakes.token('ada')}"}
    document = schemathesis.openapi.from_asgi("/openapi.json", app, headers=headers)
    return Gateway(document=document, fakes=fakes, app=app)


@pytest.mark.parametrize(("path", "method"), _operations())
def test_no_request_gets_an_answer_that_the_document_does_not_promise(
    gateway: Gateway, path: str, method: str
) -> None:
    operation = gateway.document[path][method]
    answered: set[int] = set()
    modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
    requests = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in modes))

    @settings(
        max_examples=EXAMPLES,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
        database=None,
    )
    @given(case=requests)
    def check(case: Case[Any]) -> None:
        response = case.call_and_validate(headers=gateway.headers(), checks=CHECKS)
        answered.add(response.status_code)

    check()
    if "{namespace}" in path:  # has slashes, which schemathesis makes up in no part of a path
        named = path.format(namespace="shared/notes", item="a")
        assert method != "get" or status_of(gateway, named) in {200, 404}
    else:
        assert answered - TURNED_AWAY or (path in NEEDS_A_SECRET and 401 in answered), answered


def status_of(gateway: Gateway, path: str) -> int:
    """What a request of an admin to that path is answered."""
    with TestClient(gateway.app) as client:
        return client.get(path, headers=gateway.headers()).status_code
