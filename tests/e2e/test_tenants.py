"""A tenant on a whole swarm: its runs bear its name, and its programs read nothing else."""

import json
from contextlib import aclosing
from pathlib import Path

import nats
import nats.errors
import pytest
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from swarm import AsyncSwarm
from swarm.home import gateway_certificate, gateway_url
from tests.commands import Shell

pytestmark = pytest.mark.timeout(300)
PASSWORD = "correct horse battery staple"
OBJECTIVE = "Design a rate limiter for a public HTTP API"


async def test_a_program_of_a_tenant_reads_the_tenants_runs_with_plain_tools(
    shell: Shell, client: AsyncSwarm, tmp_path: Path
) -> None:
    await client.people.create_user("wile", PASSWORD, tenant="acme")
    async with await AsyncSwarm.connect(
        gateway_url(shell.home),
        username="wile",
        password=PASSWORD,
        certificate=gateway_certificate(shell.home),
    ) as wile:
        run, others = await wile.submit(OBJECTIVE), await client.submit(OBJECTIVE)
        for each in (run, others):
            assert (await each.wait(90)).status == "completed"
        assert run.id.startswith("acme_r")
        async with aclosing(run.events()) as events:
            expected = [event.id async for event in events]
    printed = await shell.swarm("creds", "observer", "--tenant", "acme")
    assert printed.code == 0, printed
    told = dict(line.split("   ", 1) for line in printed.err.splitlines())
    told = {name.strip(): text.strip() for name, text in told.items()}
    creds = tmp_path / "acme.creds"
    creds.write_text(printed.out)
    status = json.loads((await shell.swarm("status", "--json")).out)
    connection = await nats.connect(
        status["parts"]["nats"]["address"],
        user_credentials=str(creds),
        inbox_prefix=told["inbox prefix"],
    )
    try:
        subscription = await connection.jetstream().subscribe(
            told["subjects"],
            stream="EVENTS",
            config=ConsumerConfig(
                name=told["consumers"].split(", ")[0],
                deliver_policy=DeliverPolicy.ALL,
                ack_policy=AckPolicy.NONE,
            ),
        )
        read = [await subscription.next_msg(timeout=10) for _ in expected]
        with pytest.raises(nats.errors.TimeoutError):
            await subscription.next_msg(timeout=0.5)
    finally:
        await connection.close()
    assert [(message.headers or {})["ce-id"] for message in read] == expected
    assert (await (await client.submit(OBJECTIVE)).wait(90)).status == "completed"


@pytest.mark.parametrize("name", ["default", "Acme", "a.b", "*"])
async def test_who_is_no_tenant_gets_no_credential(shell: Shell, name: str) -> None:
    outcome = await shell.swarm("creds", "observer", "--tenant", name)
    assert outcome.code == 2, outcome
    assert outcome.out == ""
