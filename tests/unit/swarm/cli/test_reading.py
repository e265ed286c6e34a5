"""What the command line needs to know of a running swarm."""

from datetime import UTC, datetime
from pathlib import Path

from bus.identity import Authority
from bus.nkey import AgentKey
from cluster.home import open_home
from cluster.log_access import domain_in, domain_of
from cluster.state import Phase, State
from policies.capabilities import Capabilities, queue_name, shipped_source
from swarm.cli.reading import OBSERVER

STATE = State(
    phase=Phase.READY,
    guard_pid=1,
    supervisor_pid=2,
    supervisor_started=0.0,
    began=datetime(2026, 1, 1, tzinfo=UTC),
    model_profile="scripted",
    workers=("reviewer",),
)


def test_an_observer_is_denied_the_queues_of_the_users_own_agents() -> None:
    policy = domain_of(STATE, Authority.create()).policy()
    denied = policy.permissions(OBSERVER, AgentKey.generate().public).deny_publish
    assert f"$JS.API.CONSUMER.MSG.NEXT.EVENTS.{queue_name('reviewer')}" in denied


def test_who_acts_beside_the_swarm_makes_credentials_by_its_policy(tmp_path: Path) -> None:
    """Else a change of keys would put another policy in force than the members obey."""
    own = shipped_source().decode().replace("tokens_per_run: 4_000_000", "tokens_per_run: 5")
    state = STATE.model_copy(update={"bundle": own})
    root = Authority.create()
    home = open_home(tmp_path / "home")
    root.save(home.keys)
    for domain in (domain_of(state, root), domain_in(home, state)):
        assert domain.policy().digest == Capabilities.of(own, STATE.workers).digest
