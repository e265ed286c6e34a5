"""A swarm whose agents have tools, and of whom some ask a model of their own."""

import json
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from policies.capabilities import shipped_source
from tests.commands import Shell
from tests.integration.actors import mcp_server

OTHER = "scripted-other"


@pytest.fixture(scope="package")
async def equipped() -> AsyncIterator[Shell]:
    """It runs code, asks a server of MCP, and asks the other model for coder and judge."""
    with tempfile.TemporaryDirectory(prefix="swarm-e2e-") as made:
        shell = Shell(home=Path(made) / "home", settings=_settings(Path(made)))
        started = await shell.swarm("up", "--model", "scripted", deadline_s=300)
        assert started.code == 0, started
        yield shell
        stopped = await shell.swarm("down")
        assert stopped.code == 0, stopped
        assert shell.processes() == []


def _settings(directory: Path) -> dict[str, str]:
    policy, servers = directory / "policy.yaml", directory / "servers.yaml"
    text = shipped_source().decode()
    named = '  researcher: {<<: *agent, call: {models: ["*"], tools: [town.hours]}}\n'
    policy.write_text(text.replace("  researcher: *agent\n", named))
    command = json.dumps([sys.executable, mcp_server.__file__])
    servers.write_text(f"town:\n  command: {command}\n  roles: [researcher]\n  timeout_s: 120\n")
    return {
        "SWARM_CODE_TOOL": "true",
        "SWARM_MCP_SERVERS": str(servers),
        "SWARM_POLICY": str(policy),
        "SWARM_ROLE_MODELS": f"coder={OTHER},judge={OTHER}",
        "SWARM_GATEWAY_PORT": "0",
        "SWARM_DASHBOARD_PORT": "0",
    }
