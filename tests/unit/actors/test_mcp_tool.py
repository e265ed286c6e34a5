"""What a server says of its tools: one that cannot be used takes no other along."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from actors import mcp_tool
from actors.mcp_servers import McpServer
from actors.mcp_tool import tools_of
from actors.shape import MAX_SCHEMA_BYTES, misfit
from actors.tool import Tool

SERVER = McpServer.model_validate({"command": ("town",), "roles": ("researcher",)})
PLAIN: dict[str, Any] = {"type": "object", "properties": {"place": {"type": "string"}}}


async def listed(
    monkeypatch: pytest.MonkeyPatch, *, times: int = 1, **schemas: dict[str, Any]
) -> dict[str, Tool]:
    """The tools of a server that lists these."""
    page = SimpleNamespace(
        tools=[
            SimpleNamespace(name=name, description=None, input_schema=schema)
            for name, schema in schemas.items()
        ]
        * times,
        next_cursor=None,
    )

    class Client:
        async def list_tools(self, *, cursor: str | None) -> SimpleNamespace:
            assert cursor is None
            return page

    @asynccontextmanager
    async def connected(_name: str, _server: McpServer) -> AsyncIterator[Client]:
        yield Client()

    monkeypatch.setattr(mcp_tool, "_connected", connected)
    tools = await tools_of({"town": SERVER}, "researcher")
    assert len(tools) == len({each.name for each in tools})
    return {each.name: each for each in tools}


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (
            {
                "$defs": {
                    **{f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(30)},
                    "d30": {},
                },
                "$ref": "#/$defs/d0",
            },
            "stands for more than",
        ),
        ({"type": "object", "required": ["a"], "$ref": "#/required"}, "is no schema"),
        ({"$ref": "#/x", "x": {"type": "text"}}, "is no JSON schema"),
        ({"type": "text"}, "is no JSON schema"),
        (
            {
                "properties": {str(n): {"$ref": "#/$defs/long"} for n in range(4)},
                "$defs": {"long": {"description": "x" * (MAX_SCHEMA_BYTES - 1_000)}},
            },
            "bytes, at most",
        ),
    ],
)
async def test_a_tool_whose_schema_cannot_be_used_is_left_out_and_named(
    monkeypatch: pytest.MonkeyPatch, schema: dict[str, Any], reason: str
) -> None:
    with capture_logs() as logs:
        tools = await listed(monkeypatch, hours=PLAIN, odd=schema, weather=PLAIN)
    assert set(tools) == {"town.hours", "town.weather"}
    (said,) = logs
    assert (said["event"], said["server"], said["tool"]) == ("mcp.tool_left_out", "town", "odd")
    assert reason in said["reason"]


async def test_arguments_are_judged_without_the_servers_regular_expressions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    schema = {"type": "object", "properties": {"place": {"type": "string", "pattern": "^(a+)+$"}}}
    tools = await listed(monkeypatch, hours=schema)
    assert tools["town.hours"].schema == PLAIN
    assert misfit(tools["town.hours"].schema, {"place": "a" * 40 + "!"}) is None
    assert misfit(tools["town.hours"].schema, {"place": 1}) == 'place: type "string"'


async def test_a_tool_that_is_listed_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with capture_logs() as logs:
        assert set(await listed(monkeypatch, times=2, hours=PLAIN)) == {"town.hours"}
    assert [said["reason"] for said in logs] == ["it is listed twice"]
