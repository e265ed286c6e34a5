"""The OpenAPI document: what a stranger's program can rely on."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import JsonValue

import tests.unit.serve.quiet_ray  # noqa: F401  # before what imports ray.serve
from policies.errors import NameRejected
from policies.usernames import check_username
from serve import openapi
from serve.app import create_app
from serve.problems import MEDIA_TYPE, Problem
from tests.unit.serve.fakes import Fakes

Json = dict[str, JsonValue]
APP = create_app(Fakes().parts())
DOCUMENT: Json = openapi.complete(APP.openapi())
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]  # type: ignore[index,call-overload,assignment]


def bodies() -> Iterator[tuple[str, Json]]:
    """Every JSON body that is sent, or answered to a request that was carried out."""
    for operation in openapi.operations(DOCUMENT):
        name = str(operation["operationId"])
        request = operation.get("requestBody")
        if isinstance(request, dict):
            yield f"{name} request", request["content"]["application/json"]["schema"]  # type: ignore[index,call-overload,misc]
        for status, response in operation["responses"].items():  # type: ignore[union-attr]
            content = response.get("content", {})  # type: ignore[union-attr]
            if status.startswith("2") and "application/json" in content:  # type: ignore[operator]
                yield f"{name} {status}", content["application/json"]["schema"]  # type: ignore[index,call-overload,misc]


def examples_of(schema: Json) -> list[JsonValue]:
    for part in schema.get("anyOf", [schema]):  # type: ignore[union-attr]
        name = str(part.get("$ref", "")).rpartition("/")[2]  # type: ignore[union-attr]
        if name:
            return list(SCHEMAS[name].get("examples", []))
    return []


@pytest.mark.parametrize(("body", "schema"), list(bodies()))
def test_every_body_has_examples_that_fit_its_schema(body: str, schema: Json) -> None:
    if "$ref" not in str(schema):
        return  # the model's own form, which is OpenAI's
    shown = examples_of(schema)
    assert shown, f"{body} has no example: add one to serve/examples.yaml"
    document = {**schema, "components": DOCUMENT["components"]}
    for example in shown:
        Draft202012Validator(document).validate(example)


def test_every_example_is_of_a_body() -> None:
    assert set(openapi.examples()) <= set(SCHEMAS)


@pytest.mark.parametrize(
    "operation", list(openapi.operations(DOCUMENT)), ids=lambda found: str(found["operationId"])
)
def test_every_refusal_is_a_problem_document_with_an_example(operation: Json) -> None:
    responses = operation["responses"]
    assert isinstance(responses, dict)
    refusals = {s: r for s, r in responses.items() if not s.startswith("2")}
    assert {"400", "500", "503", "default"} <= set(refusals)
    if "security" in operation:
        assert {"401", "403", "429"} <= set(refusals)
    if "requestBody" in operation:
        assert {"408", "413", "415", "422"} <= set(refusals)
    for status, refusal in refusals.items():
        content = refusal["content"]  # type: ignore[index,call-overload]
        assert list(content) == [MEDIA_TYPE]  # type: ignore[arg-type]
        assert refusal["description"]  # type: ignore[index,call-overload]
        if status != "default":
            problem = Problem.model_validate(content[MEDIA_TYPE]["example"])  # type: ignore[index,call-overload]
            assert problem.status == int(status)


def test_every_operation_is_described_and_has_a_name_of_its_own() -> None:
    found = list(openapi.operations(DOCUMENT))
    names = [operation["operationId"] for operation in found]
    assert len(set(names)) == len(names)
    assert all(str(operation.get("description", "")).endswith((".", ")")) for operation in found)


def test_the_document_has_every_route() -> None:
    paths: Any = DOCUMENT["paths"]
    routes = {route.path_format for route in APP.routes if isinstance(route, APIRoute)}
    assert routes - {"/openapi.json"} == set(paths)


async def test_the_gateway_hands_the_document_out_to_who_is_logged_in() -> None:
    async with Fakes().client() as client:
        first, second = [await client.get("/openapi.json") for _ in range(2)]
    assert first.json() == second.json()
    assert "401" in first.json()["paths"]["/v1/runs"]["get"]["responses"]
    async with Fakes().client(None) as client:
        assert (await client.get("/openapi.json")).status_code == 401


@given(st.text(max_size=20))
def test_the_document_refuses_no_name_that_a_user_may_have(name: str) -> None:
    pattern = str(SCHEMAS["UserRequest"]["properties"]["username"]["pattern"])
    try:
        check_username(name)
    except NameRejected:
        return
    assert re.search(pattern, name)
