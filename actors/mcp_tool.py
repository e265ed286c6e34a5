"""Tools of MCP servers (modelcontextprotocol.io), by its Python SDK.

Each call has a connection of its own: a server that dies, hangs or answers nonsense ends that
call, and takes nothing along. Arguments are checked here against a copy of the schema that the
server gave (`actors.mcp_schema`), before it is asked.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import structlog
from httpx2 import AsyncClient, HTTPError
from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import TextContent
from pydantic import JsonValue, TypeAdapter, ValidationError

from actors.errors import InvalidStep, InvalidTool, ServerFailed, ToolFailed, ToolMisused
from actors.mcp_schema import bounded
from actors.mcp_servers import McpServer
from actors.shape import MAX_SCHEMA_BYTES, check_schema, misfit
from actors.tool import Tool
from bus.payloads import StepAssigned
from bus.tool_payloads import ToolName

log = structlog.get_logger()

MAX_PAGES: Final = 16
"""Of a listing of tools; a server that goes on has too many for a prompt."""
MAX_COPY_BYTES: Final = 2 * MAX_SCHEMA_BYTES
"""Of a schema in which each reference is replaced by what it refers to."""
_REASON_CHARS: Final = 300
_JSON: Final[TypeAdapter[JsonValue]] = TypeAdapter(JsonValue)
_NAME: Final[TypeAdapter[str]] = TypeAdapter(ToolName)


@dataclass(frozen=True, slots=True, kw_only=True)
class McpTool:
    """A tool of a server; implements `Tool`."""

    name: str
    description: str
    schema: Mapping[str, JsonValue]
    """The server's own takes no more than this one, and maybe less."""
    timeout_s: float
    of_server: str
    """What the server calls it."""
    server: McpServer = field(repr=False)

    async def call(self, arguments: Mapping[str, JsonValue], assigned: StepAssigned) -> JsonValue:  # noqa: ARG002 - the port has it
        """Ask the server.

        Raises:
            ToolMisused: the arguments do not fit its schema; it was not asked.
            ToolFailed: it says that it failed, or said nothing that can be read.
            ServerFailed: it ended, or could not be reached.
        """
        reason = await asyncio.to_thread(misfit, self.schema, arguments)
        if reason is not None:
            raise ToolMisused(f"{self.name}: {reason}")
        async with _connected(self.name, self.server) as client:
            result = await client.call_tool(self.of_server, dict(arguments))
        texts = [part.text for part in result.content if isinstance(part, TextContent)]
        text = "\n".join(texts)
        if result.is_error:
            raise ToolFailed(f"{self.name} failed: {text}"[:_REASON_CHARS])
        if result.structured_content is not None:
            return _JSON.validate_python(result.structured_content)
        if not texts:
            raise ToolFailed(f"{self.name} answered no text")
        return text


async def tools_of(servers: Mapping[str, McpServer], role: str) -> list[Tool]:
    """The tools of the servers of a role. A server that does not answer now has none."""
    mine = {name: server for name, server in servers.items() if role in server.roles}
    found = await asyncio.gather(*(_listed(name, server) for name, server in mine.items()))
    return [each for tools in found for each in tools]


async def _listed(name: str, server: McpServer) -> list[Tool]:
    tools: dict[str, Tool] = {}
    try:
        async with asyncio.timeout(server.timeout_s), _connected(name, server) as client:
            cursor = None
            for _ in range(MAX_PAGES):
                page = await client.list_tools(cursor=cursor)
                for each in page.tools:
                    told = (each.name, each.description, each.input_schema)
                    made = await asyncio.to_thread(_tool, name, server, *told)
                    if made is not None and tools.setdefault(made.name, made) is not made:
                        reason = "it is listed twice"
                        log.warning("mcp.tool_left_out", server=name, tool=each.name, reason=reason)
                cursor = page.next_cursor
                if cursor is None:
                    break
    except (ServerFailed, TimeoutError) as error:
        log.warning("mcp.server_without_tools", server=name, reason=str(error) or "no answer")
    return list(tools.values())


def _tool(
    server_name: str,
    server: McpServer,
    of_server: str,
    description: str | None,
    schema: Mapping[str, JsonValue],
) -> McpTool | None:
    """A tool as agents see it; None where its name or schema cannot be used."""
    name = f"{server_name}.{of_server}"
    try:
        _NAME.validate_python(name)
        check_schema(name, schema)
        copy = bounded(schema)
        check_schema(name, copy, max_bytes=MAX_COPY_BYTES)
    except (ValidationError, InvalidStep, InvalidTool) as error:
        log.warning(
            "mcp.tool_left_out",
            server=server_name,
            tool=of_server[:_REASON_CHARS],
            reason=str(error)[:_REASON_CHARS],
        )
        return None
    return McpTool(
        name=name,
        description=" ".join((description or of_server).split()),
        schema=copy,
        timeout_s=server.timeout_s,
        of_server=of_server,
        server=server,
    )


@asynccontextmanager
async def _connected(name: str, server: McpServer) -> AsyncIterator[Client]:
    """A client of the server; what goes wrong with it is an error of ours.

    Raises:
        ServerFailed: it could not be started or reached, or ended.
    """
    try:
        async with AsyncExitStack() as stack:
            yield await stack.enter_async_context(await _client(server, stack))
    except (MCPError, OSError, HTTPError, ValueError) as error:
        raise _failed(name, error) from error
    except ExceptionGroup as group:
        known, rest = group.split((MCPError, OSError, HTTPError, ValueError))
        if known is None or rest is not None:
            raise
        raise _failed(name, known.exceptions[0]) from group


async def _client(server: McpServer, stack: AsyncExitStack) -> Client:
    if server.url:
        headers = {name: value.get_secret_value() for name, value in server.headers.items()}
        http = await stack.enter_async_context(
            AsyncClient(headers=headers, timeout=server.timeout_s)
        )
        transport = streamable_http_client(server.url, http_client=http)
    else:
        parameters = StdioServerParameters(
            command=server.command[0],
            args=list(server.command[1:]),
            env={name: value.get_secret_value() for name, value in server.environment.items()},
        )
        transport = stdio_client(parameters, errlog=sys.__stderr__ or sys.stderr)
    return Client(transport, cache=None)


def _failed(name: str, error: BaseException) -> ServerFailed:
    reason = f"{type(error).__name__}: {error}"[:_REASON_CHARS]
    return ServerFailed(f"the server of {name} failed: {reason}")
