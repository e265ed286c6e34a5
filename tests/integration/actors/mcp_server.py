"""An MCP server with good and bad tools, for the tests: `python mcp_server.py`."""

import os
import signal
import sys
import time
from typing import Any, cast

from mcp.server.mcpserver import MCPServer

server = MCPServer("town")


@server.tool()
def hours(place: str) -> str:
    """Tells when a place is open."""
    return f"{place}: 9 to 18"


@server.tool()
def environment() -> str:
    """Tells what it was started with."""
    return " ".join(sorted(os.environ))  # noqa: TID251 - of a foreign process


@server.tool()
def die() -> str:
    """Ends in the middle of a call."""
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


@server.tool()
def hang() -> str:
    """Never answers."""
    time.sleep(3600)
    return ""


@server.tool()
def flood() -> str:
    """Answers too much."""
    return "x" * 1_000_000


@server.tool()
def fail() -> str:
    """Fails."""
    raise ValueError("made up")


@server.tool(name="a b")
def unnameable() -> str:
    """Has a name that no policy can have."""
    return ""


if __name__ == "__main__":
    server.run(*cast("list[Any]", sys.argv[1:]))
