"""A swarm with a fallback provider: the provider's key shows nowhere."""

import json
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from cluster.fallback import KEY_FILE
from cluster.home import locate
from swarm import AsyncSwarm
from tests.commands import Shell
from tests.provider import KEY, MODEL, OutsideProvider, outside_provider
from tests.secrets import logs_of, secrets_of, seen, told_by

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
async def outside() -> AsyncIterator[OutsideProvider]:
    async with outside_provider() as provider:
        yield provider


@pytest.fixture
async def shell(outside: OutsideProvider) -> AsyncIterator[Shell]:
    with tempfile.TemporaryDirectory(prefix="swarm-e2e-") as made:
        shell = Shell(
            home=Path(made) / "home",
            settings={
                "SWARM_GATEWAY_PORT": "0",
                "SWARM_DASHBOARD_PORT": "0",
                "SWARM_FALLBACK": "openai",
                "SWARM_FALLBACK_URL": outside.url,
                "SWARM_FALLBACK_MODEL": MODEL,
                "OPENAI_API_KEY": KEY,
            },
        )
        started = await shell.swarm("up", "--model", "scripted", deadline_s=240)
        try:
            assert started.code == 0, started
            yield shell
        finally:
            await shell.swarm("down")


async def test_the_key_is_in_one_file_and_nowhere_else(
    shell: Shell, outside: OutsideProvider
) -> None:
    home = locate(shell.home)
    async with await AsyncSwarm.connect(home=shell.home) as client:
        run = await client.submit("Design a rate limiter for a public HTTP API")
        assert (await run.wait(60)).status == "completed"
    secret = {"key": secrets_of(home.keys)[f"{KEY_FILE}:1"]}
    assert secret == {"key": KEY.encode()}
    assert seen(secret, logs_of(home)) == []
    assert seen(secret, told_by(shell.processes())) == []
    parts = json.loads((await shell.swarm("status", "--json")).out)["parts"]
    headers = {"Authorization": f"Bearer {home.ray_token().read_text().strip()}"}
    async with httpx.AsyncClient(
        base_url=parts["dashboard"]["address"], headers=headers, timeout=120
    ) as dashboard:
        for path in (
            "/api/serve/applications/",
            "/api/v0/actors?detail=true",
            "/api/v0/workers?detail=true",
            "/nodes?view=summary",
            "/logical/actors",
        ):
            answer = await dashboard.get(path)
            assert answer.status_code == 200, path
            assert seen(secret, [(path, answer.content)]) == []
    assert outside.requests == []
