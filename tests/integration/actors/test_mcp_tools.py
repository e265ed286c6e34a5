"""Tools of a real MCP server: what it does wrong ends a call, and nothing else."""

import asyncio
import socket
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import uvicorn

from actors.errors import ServerFailed, ServersNotUsable, ToolFailed, ToolMisused
from actors.mcp_servers import McpServer, ServersSource
from actors.mcp_tool import tools_of
from actors.tool import Tool
from actors.toolbox import Toolbox
from bus.payloads import StepAssigned
from policies.capabilities import Capabilities, shipped_source
from tests.integration.actors import mcp_server

SERVER = Path(__file__).parent / "mcp_server.py"
STEP = StepAssigned(
    step="research",
    iteration=1,
    attempt=1,
    role="researcher",
    objective="Find out",
    inputs={},
    deadline_s=30,
)


def server(**changes: object) -> McpServer:
    command = (sys.executable, str(SERVER))
    return McpServer.model_validate({"command": command, "roles": ("researcher",), **changes})


@pytest.fixture(scope="module")
async def tools() -> dict[str, Tool]:
    return {each.name: each for each in await tools_of({"town": server()}, "researcher")}


def children() -> list[psutil.Process]:
    return [each for each in psutil.Process().children(recursive=True) if each.is_running()]


async def test_its_tools_carry_its_name_and_their_schema(tools: dict[str, Tool]) -> None:
    assert set(tools) == {
        *("town.hours", "town.environment", "town.die", "town.hang", "town.flood", "town.fail")
    }
    assert tools["town.hours"].description == "Tells when a place is open."
    assert tools["town.hours"].schema["required"] == ["place"]


async def test_only_the_roles_that_it_is_for_are_given_its_tools() -> None:
    assert await tools_of({"town": server()}, "coder") == []


async def test_a_call_is_answered(tools: dict[str, Tool]) -> None:
    answer = await tools["town.hours"].call({"place": "library"}, STEP)
    assert answer in ("library: 9 to 18", {"result": "library: 9 to 18"})


async def test_arguments_are_checked_before_it_is_asked(tools: dict[str, Tool]) -> None:
    with pytest.raises(ToolMisused, match="town.hours: "):
        await tools["town.hours"].call({"place": 1}, STEP)


async def test_it_is_told_nothing_of_the_swarm(
    tools: dict[str, Tool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWARM_SECRET", "the secret")
    answer = str(await tools["town.environment"].call({}, STEP))
    assert "PATH" in answer
    assert "SWARM" not in answer


async def test_a_server_that_dies_in_a_call_fails_it_and_the_next_one_is_answered(
    tools: dict[str, Tool],
) -> None:
    with pytest.raises(ServerFailed, match="the server of town.die failed"):
        await tools["town.die"].call({}, STEP)
    assert await tools["town.hours"].call({"place": "museum"}, STEP)


async def test_a_failure_that_it_tells_of_is_one_of_the_tool(tools: dict[str, Tool]) -> None:
    with pytest.raises(ToolFailed, match="town.fail failed"):
        await tools["town.fail"].call({}, STEP)


async def test_a_server_that_hangs_is_ended_at_the_deadline(tools: dict[str, Tool]) -> None:
    before = set(children())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(3):
            await tools["town.hang"].call({}, STEP)
    assert not set(children()) - before


async def test_a_server_that_is_not_there_has_no_tools(tmp_path: Path) -> None:
    gone = server(command=(str(tmp_path / "missing"),))
    away = server(command=(), url="http://127.0.0.1:9/mcp", timeout_s=5)
    assert await tools_of({"gone": gone, "away": away}, "researcher") == []


async def test_one_that_speaks_something_else_has_no_tools() -> None:
    loud = server(command=(sys.executable, "-c", "print('hello')"), timeout_s=5)
    assert await tools_of({"loud": loud}, "researcher") == []


async def test_a_server_over_http_is_asked_with_its_headers() -> None:
    seen = []
    app = mcp_server.server.streamable_http_app()

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            seen.append(dict(scope["headers"]).get(b"authorization"))
        await app(scope, receive, send)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        web = uvicorn.Server(uvicorn.Config(noting, log_level="warning", ws="none"))
        serving = asyncio.create_task(web.serve(sockets=[listening]))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
        there = server(command=(), url=url, headers={"Authorization": "Bearer x"})
        try:
            found = {each.name: each for each in await tools_of({"town": there}, "researcher")}
            answer = await found["town.hours"].call({"place": "library"}, STEP)
        finally:
            web.should_exit = True
            await serving

    assert "library: 9 to 18" in str(answer)
    assert set(seen) == {b"Bearer x"}


def test_of_a_server_a_role_has_what_the_policy_names(tools: dict[str, Tool]) -> None:
    text = (
        shipped_source()
        .decode()
        .replace('    models: ["*"]\n', '    models: ["*"]\n    tools: [town.hours]\n', 1)
    )
    box = Toolbox("researcher", tools.values(), Capabilities(text.encode()))
    assert [each.name for each in box.tools] == ["town.hours"]
    assert Toolbox("researcher", tools.values(), Capabilities.shipped()).tools == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("town: [", "not YAML"),
        ("town: {roles: [coder]}", "either a command or a url"),
        ("town: {roles: [coder], command: [a], url: 'http://a'}", "either a command or a url"),
        ("town: {command: [a]}", "town.roles: Field required"),
        ("town: {command: [a], roles: []}", "town.roles"),
        ("town: {command: [a], roles: [coder], secret: hidden}", "town.secret"),
        ("a.b: {command: [a], roles: [coder]}", "a.b"),
        ("town: {url: 'ftp://a', roles: [coder]}", "town.url"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_place(
    tmp_path: Path, text: str, told: str
) -> None:
    path = tmp_path / "servers.yaml"
    path.write_text(text)
    with pytest.raises(ServersNotUsable, match=told) as refused:
        ServersSource.read(path)
    assert "hidden" not in str(refused.value)


def test_secrets_of_a_file_are_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "servers.yaml"
    path.write_text("a: {url: 'http://a', roles: [coder], headers: {Authorization: hidden}}")
    source = ServersSource.read(path)
    assert "hidden" not in f"{source!r} {source.servers()!r}"
