"""Items called as what an address says of a namespace: none is written, older ones are there."""

import json

import httpx
import pytest
from fastapi.routing import APIRoute
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bus.event import Draft
from bus.memory_payloads import TAKEN, ItemReference, MemoryWritten
from serve.app import create_app
from tests.unit.serve.fakes import UMA, Fakes

NAMESPACE = r"[a-z]{1,6}(/(items|export|[a-z]{1,3}))+"
ITEM = r"(items|export)[a-z.:_-]{1,3}|[a-z.:_-]{1,8}"
ROUTES = [each for each in create_app(Fakes().parts()).routes if isinstance(each, APIRoute)]
NOTES = "/v1/memory/shared/notes/items"


async def written_before(fakes: Fakes, name: str) -> None:
    """An item of that name, as the log of an earlier version has it."""
    item = {"namespace": "shared/notes", "item": name, "kind": "semantic", "content": "old"}
    payload = MemoryWritten.model_validate_json(json.dumps(item))
    await fakes.log.append(Draft(run="memory", payload=payload, id="old", on_behalf_of=UMA))
    fakes.memory.catch_up()


async def listed(client: httpx.AsyncClient) -> list[str]:
    return [each["item"] for each in (await client.get(NOTES)).json()["items"]]


@given(namespace=st.from_regex(NAMESPACE, fullmatch=True), item=st.from_regex(ITEM, fullmatch=True))
@example(namespace="shared/items", item="items-1")
@example(namespace="items/export", item="a.items")
def test_the_address_of_an_item_is_of_nothing_else(namespace: str, item: str) -> None:
    assume(item not in TAKEN)
    address = f"/v1/memory/{namespace}/items/{item}"
    gets = [route for route in ROUTES if "GET" in route.methods and route.path_regex.match(address)]
    assert [route.name for route in gets] == ["read_memory"]


@pytest.mark.parametrize("name", TAKEN)
async def test_an_item_that_nobody_could_read_is_not_written(name: str) -> None:
    fakes = Fakes()
    async with fakes.client() as client:
        answer = await client.put(f"{NOTES}/{name}", json={"content": "x"})
    assert answer.status_code == 422
    assert fakes.log.stored == []


@pytest.mark.parametrize("name", TAKEN)
async def test_an_older_one_is_listed_exported_and_found_and_can_be_deleted(name: str) -> None:
    fakes = Fakes()
    await written_before(fakes, name)
    async with fakes.client() as client:
        there = await listed(client)
        export = await client.get("/v1/memory/shared/export")
        found = await client.post("/v1/memory/search", json={"query": "old"})
        again = await client.put(f"{NOTES}/{name}", json={"content": "new"})
        gone = await client.delete(f"{NOTES}/{name}")
        left = await listed(client)
    assert (there, json.loads(export.text)["item"], left) == ([name], name, [])
    assert [each["item"]["item"] for each in found.json()["found"]] == [name]
    assert (again.status_code, gone.status_code) == (422, 204)


@pytest.mark.parametrize("name", TAKEN)
async def test_what_is_made_from_an_older_one_says_so(name: str) -> None:
    fakes = Fakes()
    source = ItemReference.model_validate({"namespace": "shared/notes", "item": name, "version": 1})
    async with fakes.client() as client:
        body = {"content": "x", "derived_from": [source.model_dump()]}
        made = await client.put(f"{NOTES}/a", json=body)
    assert (made.status_code, made.json()["derived_from"]) == (201, [source.model_dump()])
