"""What the command line needs to know of a running swarm."""

from datetime import UTC, datetime

from bus.identity import Authority
from bus.nkey import AgentKey
from cluster.state import Phase, State
from policies.capabilities import queue_name
from swarm.cli.reading import OBSERVER, domain_of


def test_an_observer_is_denied_the_queues_of_the_users_own_agents() -> None:
    state = State(
        phase=Phase.READY,
        guard_pid=1,
        supervisor_pid=2,
        supervisor_started=0.0,
        began=datetime(2026, 1, 1, tzinfo=UTC),
        model_profile="scripted",
        workers=("reviewer",),
    )
    policy = domain_of(state, Authority.create()).policy()
    denied = policy.permissions(OBSERVER, AgentKey.generate().public).deny_publish
    assert f"$JS.API.CONSUMER.MSG.NEXT.EVENTS.{queue_name('reviewer')}" in denied
