"""`swarm policy` asks a real log: what is in force, and what another policy would refuse."""

from actors.member import Domain
from policies.capabilities import Capabilities, shipped_source
from swarm.cli.policy import refused_in
from swarm.cli.reading import observing
from tests.broker import Broker
from tests.swarming import ScriptedAnswers, submission, team, until_end


async def test_the_recorded_events_that_a_policy_would_refuse_are_named(broker: Broker) -> None:
    domain = Domain(
        nats_url=broker.url,
        operator_public_key=broker.authority.operator_public_key,
        account_jwt=broker.authority.account_jwt,
    )
    async with broker.joined("gateway") as gateway, team(broker, ScriptedAnswers()):
        await gateway.append(submission("r1"))
        answers = [
            event
            for event in await until_end(gateway, "r1")
            if event.event.type == "swarm.step.completed.v1"
        ]
        async with observing(domain, broker.authority) as log:
            in_force = await log.policy_in_force()
            assert in_force is not None
            assert in_force.document == Capabilities.shipped().document
            assert await refused_in(log, Capabilities.shipped()) == []
            mute = Capabilities(shipped_source().replace(b"      - run.submitted\n", b""))
            (refused,) = await refused_in(log, mute)
            assert (refused.run, refused.type) == ("r1", "swarm.run.submitted.v1")
            assert "no capability to publish run.submitted" in refused.reason
            other = Capabilities(shipped_source().replace(b'models: ["*"]', b"models: [other]"))
            found = await refused_in(log, other)
            assert [each.stream_sequence for each in found] == [
                each.stream_sequence for each in answers
            ]
            assert all("call model 'scripted'" in each.reason for each in found)
