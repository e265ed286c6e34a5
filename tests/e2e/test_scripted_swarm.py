"""A whole swarm on Ray, started by the command line, with the scripted model."""

import asyncio
import json
from collections import Counter
from contextlib import aclosing, suppress
from urllib.parse import unquote

import httpx
import nats
import psutil
import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_binary_event
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from actors.team import AGENTS
from bus.payloads import PAYLOADS
from serve.tls import trusting_only
from storage.checkpoint import parse_checkpoint
from swarm import AsyncSwarm
from swarm.cli.runs import complete_audit
from swarm.home import gateway_certificate, gateway_url
from swarm.run import AsyncRun
from swarm.view import RunStatus
from tests.commands import Shell
from tests.witnessing import Running

pytestmark = pytest.mark.timeout(300)
OBJECTIVE = "Design a rate limiter for a public HTTP API"


async def test_status_tells_every_part_and_its_health(shell: Shell) -> None:
    status = json.loads((await shell.status()).out)
    assert status["healthy"]
    assert {"gateway", "nats", "postgres", "redis", "qdrant", "dashboard", "model"} <= set(
        status["parts"]
    )


def test_every_process_has_the_share_of_a_busy_machine_that_its_user_has(shell: Shell) -> None:
    """Ray takes it from its workers, unless told otherwise: agents, coordinator and gateway."""
    shares: dict[str, int] = {}
    for process in shell.processes():
        with suppress(psutil.Error):  # it has ended meanwhile
            shares[process.name()] = process.nice()
    assert any(name.startswith("ray::") for name in shares)
    assert set(shares.values()) == {psutil.Process().nice()}, shares


async def test_a_job_ends_with_a_document_and_a_complete_audit(shell: Shell) -> None:
    outcome = await shell.swarm("run", OBJECTIVE)
    assert outcome.code == 0, outcome
    assert OBJECTIVE in outcome.out
    assert "Merkle root" in outcome.out
    assert "scripted (a stand-in: no model was asked)" in outcome.out
    assert "specifier-1" in outcome.err


async def test_a_witness_cosigns_the_audit_log(
    shell: Shell, client: AsyncSwarm, witness: Running
) -> None:
    run = await client.submit(OBJECTIVE, priority="low")
    await run.wait()
    async with asyncio.timeout(90):
        while (cosigned := (await run.audit()).cosigned) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    signed = parse_checkpoint(cosigned)
    signed.note.verify(witness.key)
    told = parse_checkpoint((await witness.http.get("/checkpoint")).text)
    assert told.checkpoint.size >= signed.checkpoint.size > 0
    status = json.loads((await shell.status()).out)
    assert status["parts"][f"witness {witness.key.name}"]["healthy"]
    (shown,) = status["log"]["witnesses"]
    assert shown["cosigned"] >= signed.checkpoint.size


async def test_json_output_is_one_document(shell: Shell) -> None:
    outcome = await shell.swarm("run", OBJECTIVE, "--json")
    assert outcome.code == 0, outcome
    document = json.loads(outcome.out)
    assert document["status"] == "completed"
    assert document["audit"]["events"] == document["audit"]["signatures_verified"]
    assert document["audit"]["refused"] == 0
    listed = await shell.swarm("events", document["id"], "--json")
    events = [json.loads(line) for line in listed.out.splitlines()]
    assert len(events) == document["audit"]["events"]
    assert all(event["type"] in PAYLOADS for event in events)


async def test_a_read_only_identity_reads_every_event_with_standard_tools(
    shell: Shell, client: AsyncSwarm
) -> None:
    run = await client.submit(OBJECTIVE)
    await run.wait(60)
    async with aclosing(run.events()) as following:
        expected = [event.id async for event in following]
    printed = await shell.swarm("creds", "observer")
    assert printed.code == 0, printed
    creds = shell.home / "observer.creds"
    creds.touch(mode=0o600)
    creds.write_text(printed.out)
    status = json.loads((await shell.swarm("status", "--json")).out)
    url = status["parts"]["nats"]["address"]
    connection = await nats.connect(url, user_credentials=str(creds))
    try:
        stream = connection.jetstream()
        subscription = await stream.subscribe(
            f"evt.*.{run.id}.>",
            stream="EVENTS",
            config=ConsumerConfig(  # a name: NATS asks for permission by it
                name=f"reader-{run.id}", deliver_policy=DeliverPolicy.ALL,
                ack_policy=AckPolicy.NONE, flow_control=True,
                idle_heartbeat=1.0,
            ),
        )  # fmt: skip
        read = []
        for _ in expected:
            message = await subscription.next_msg(timeout=10)
            assert message.headers is not None
            headers = {**message.headers, "content-type": message.headers["ce-datacontenttype"]}
            read.append(from_binary_event(HTTPMessage(headers=headers, body=message.data)))
    finally:
        await connection.close()
    assert [event.get_id() for event in read] == expected
    assert {unquote(str(event.get_extension("run"))) for event in read} == {run.id}


async def killed_in_the_middle(shell: Shell, client: AsyncSwarm, actor: str) -> RunStatus:
    """Submit a run and kill -9 an actor while the run is on; the run's status at its end.

    An agent is killed when it has claimed a step, the coordinator at the third claim.
    """
    run = await client.submit(OBJECTIVE)
    claims = 0
    async with asyncio.timeout(60), aclosing(run.events()) as following:
        async for event in following:
            if event.type != "swarm.step.claimed.v1":
                continue
            claims += 1
            its_turn = f"swarm://{actor.lower()}/" in (event.source or "")
            if its_turn or (actor == "CoordinatorActor" and claims == 3):
                shell.kill_actor(actor)
                break
    status = await run.wait(90)
    assert status.status == "completed", status.failure
    await one_result_per_step(run, status)
    return status


async def one_result_per_step(run: AsyncRun, status: RunStatus) -> None:
    async with aclosing(run.events()) as following:
        events = [event async for event in following]
    refused = {e.payload["refused"] for e in events if e.payload and "refused" in e.payload}
    accepted = Counter(
        (e.payload["step"], e.payload["iteration"])
        for e in events
        if e.type == "swarm.step.completed.v1" and e.payload and e.id not in refused
    )
    assert set(accepted.values()) == {1}
    assert len(accepted) == len(status.steps)


@pytest.mark.parametrize("role", sorted(agent.__name__ for agent in AGENTS.values()))
async def test_an_agent_killed_in_the_middle_loses_and_doubles_nothing(
    shell: Shell, client: AsyncSwarm, role: str
) -> None:
    await killed_in_the_middle(shell, client, role)


async def test_the_coordinator_killed_in_the_middle_loses_and_doubles_nothing(
    shell: Shell, client: AsyncSwarm
) -> None:
    await killed_in_the_middle(shell, client, "CoordinatorActor")


async def test_the_auditor_killed_in_the_middle_misses_no_event(
    shell: Shell, client: AsyncSwarm
) -> None:
    run = await client.submit(OBJECTIVE)
    shell.kill_actor("AuditorActor")
    await run.wait(90)
    async with aclosing(run.events()) as following:
        events = [event async for event in following]
    async with asyncio.timeout(120):
        while (audit := await complete_audit(run, len(events))) is None:
            continue  # it has waited for half a minute itself
    assert (audit.events, audit.refused) == (len(events), 0)


@pytest.mark.parametrize(
    ("arguments", "stdin", "reason"),
    [
        (("run", ""), "", "objective"),
        (("run", "   "), "", "objective"),
        (("run", "-"), "x" * 1_000_000, ""),
        (("run", OBJECTIVE, "--workflow", "nonsense"), "", "sparc"),
        (("run", OBJECTIVE, "--model", "gpt-9"), "", "scripted"),
        (("run",), "", "objective"),
        (("events", "../../etc"), "", "nothing here"),
        (("up", "--model", "gpt-9"), "", ""),
    ],
)
async def test_bad_input_is_refused_with_a_reason(
    shell: Shell, arguments: tuple[str, ...], stdin: str, reason: str
) -> None:
    outcome = await shell.swarm(*arguments, stdin=stdin)
    assert outcome.code in (1, 2), outcome
    assert reason in outcome.err.lower()
    assert "Traceback" not in outcome.err


async def test_the_gateway_refuses_strangers_and_nonsense(shell: Shell) -> None:
    certificate = gateway_certificate(shell.home)
    assert certificate is not None
    address = gateway_url(shell.home)
    assert address.startswith("https://")
    async with httpx.AsyncClient(
        base_url=address, verify=trusting_only(certificate), timeout=60
    ) as http:
        for path in (
            "/v1/runs/r1",
            "/v1/models",
            "/health/ready",
            "/auth/validate",
            "/openapi.json",
        ):
            assert (await http.get(path)).status_code == 401, path
        assert (await http.get("/health/live")).status_code == 200
        wrong = await http.post("/auth/login", json={"username": "admin", "password": "wrong"})
        assert wrong.status_code == 401
        malformed = await http.post(
            "/auth/login", content=b"{", headers={"content-type": "application/json"}
        )
        assert malformed.status_code == 400
        assert malformed.headers["content-type"] == "application/problem+json"
        assert "strict-transport-security" in malformed.headers


async def test_a_second_start_in_the_same_home_is_refused(shell: Shell) -> None:
    outcome = await shell.swarm("up", "--model", "scripted")
    assert outcome.code == 1, outcome
    assert "already" in outcome.err


async def test_chat_goes_through_the_gateway(client: AsyncSwarm) -> None:
    reply = await client.chat([{"role": "user", "content": "Say something."}])
    assert reply.text
    assert reply.model == "scripted"
