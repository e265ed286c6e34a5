from datetime import UTC, datetime
from pathlib import Path

import pytest

from actors.loss import Difference
from bus.reference import ObjectReference
from cluster.comparison import Assessment, SelfCheck
from cluster.findings import (
    NAMED,
    HomeFacts,
    judge_amount,
    judge_audit_log,
    judge_embedder,
    judge_engine,
    judge_fit,
    judge_home,
    judge_model,
    judge_objects,
    judge_port,
    judge_python,
    judge_reach,
    judge_recovery,
    judge_state,
    judge_stream,
    judge_weights,
)
from cluster.state import Failure, Phase, State
from storage.objects import OwedObject


def _home(**changes: object) -> HomeFacts:
    facts: dict[str, object] = {
        "path": Path("/home/me/.swarm"),
        "exists": True,
        "is_directory": True,
        "mine": True,
        "mode": 0o700,
        "writable": True,
        "free_bytes": 1 << 40,
    }
    return HomeFacts(**{**facts, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "ok", "words"),
    [
        (_home(), True, "/home/me/.swarm"),
        (_home(exists=False, mine=False), True, "will be created"),
        (_home(mode=0o755), True, "set to 700"),
        (_home(is_directory=False), False, "not a directory"),
        (_home(mine=False), False, "someone else's"),
        (_home(writable=False), False, "cannot be written"),
        (_home(exists=False, writable=False), False, "cannot be written"),
    ],
)
def test_a_home_is_judged_by_what_a_start_would_meet(
    facts: HomeFacts, *, ok: bool, words: str
) -> None:
    finding = judge_home(facts)
    assert finding.ok is ok
    assert words in finding.detail


def _state(phase: Phase, failure: str = "") -> State:
    return State(
        phase=phase,
        guard_pid=1,
        supervisor_pid=2,
        supervisor_started=0,
        began=datetime(2026, 1, 1, tzinfo=UTC),
        model_profile="scripted",
        failure=Failure(code="part_failed", message=failure) if failure else None,
    )


@pytest.mark.parametrize(
    ("state", "alive", "ok", "words"),
    [
        (None, False, True, "no swarm has run"),
        (_state(Phase.READY), True, True, "is ready"),
        (_state(Phase.STOPPED), False, True, "was stopped"),
        (_state(Phase.FAILED, "no port"), False, True, "no port"),
        (_state(Phase.READY), False, False, "killed while ready"),
    ],
)
def test_a_state_without_its_process_is_stale(
    state: State | None, *, alive: bool, ok: bool, words: str
) -> None:
    finding = judge_state(state, alive=alive)
    assert finding.ok is ok
    assert words in finding.detail


@pytest.mark.parametrize(
    ("ray", "engine", "wanted", "ok"),
    [
        ("2.60.0", "0.29.0", "0.29.0", True),
        ("2.60.0", "0.29.0+cpu", "0.29.0", True),
        ("2.60.0", "0.30.0", "0.29.0", False),
        ("2.60.0", None, "0.29.0", False),
        (None, "0.29.0", None, False),
        ("2.60.0", "0.29.0", None, True),
    ],
)
def test_the_engine_must_be_the_one_that_ray_was_made_for(
    ray: str | None, engine: str | None, wanted: str | None, *, ok: bool
) -> None:
    assert judge_engine(ray, engine, wanted).ok is ok


def test_amounts_are_compared_and_shown_in_gib() -> None:
    assert judge_amount("disk", 2 << 30, 3 << 30, "free some").ok is False
    assert judge_amount("disk", 3 << 30, 3 << 30, "").detail == "3.0 GiB, at least 3.0 GiB needed"


def test_a_taken_port_names_its_variable() -> None:
    finding = judge_port("gateway", 8000, "SWARM_GATEWAY_PORT", free=False)
    assert not finding.ok
    assert "SWARM_GATEWAY_PORT" in finding.hint


def test_an_old_python_is_found() -> None:
    assert judge_python((3, 11)).ok
    assert not judge_python((3, 10)).ok


def test_an_unknown_profile_is_found() -> None:
    assert not judge_model("nonesuch", gpu=False, known=False).ok
    assert "no GPU" in judge_model("smollm2-135m", gpu=False, known=True).detail


def test_weights_may_be_prepared_later_but_not_out_of_nothing() -> None:
    assert judge_weights(prepared=True, found=False).ok
    assert judge_weights(prepared=False, found=True).ok
    assert not judge_weights(prepared=False, found=False).ok


def test_an_external_ray_needs_servers_that_its_nodes_reach() -> None:
    assert judge_reach("127.0.0.1", ["NATS_URL"]).ok
    assert judge_reach("10.0.0.1", []).ok
    finding = judge_reach("10.0.0.1", ["NATS_URL"])
    assert not finding.ok
    assert "NATS_URL" in finding.hint


def _assessment(lost: int) -> Assessment:
    return Assessment(
        recorded=100,
        last_recorded=100,
        last_sequence=103,
        lost=tuple(
            Difference(
                how="missing",
                stream_sequence=number,
                sender="swarm://coder/coder-1",
                sequence=number + 1,
            )
            for number in range(1, lost + 1)
        ),
        unrecorded=(),
    )


def test_lost_events_are_counted_and_the_first_are_named_with_sender_and_sequence() -> None:
    whole = judge_stream(_assessment(0))
    assert whole.ok
    assert "3 sequences to go" in whole.detail
    finding = judge_stream(_assessment(NAMED + 3))
    assert not finding.ok
    assert f"lost {NAMED + 3} of 100" in finding.detail
    assert finding.detail.count("swarm://coder/coder-1") == NAMED
    assert "7: swarm://coder/coder-1 no. 8 (missing)" in finding.detail
    assert "swarm recover" in finding.hint


def test_an_audit_log_that_does_not_add_up_is_found() -> None:
    assert all(f.ok for f in judge_audit_log(SelfCheck(altered=(), broken_chains=())))
    audit, chains = judge_audit_log(SelfCheck(altered=("row 3",), broken_chains=("5: a gap",)))
    assert (audit.ok, chains.ok) == (False, False)
    assert "row 3" in audit.detail
    assert "5: a gap" in chains.detail


def test_an_interrupted_recovery_is_found() -> None:
    assert judge_recovery(unfinished=False).ok
    assert not judge_recovery(unfinished=True).ok


def test_lost_objects_are_counted_and_the_first_are_named() -> None:
    assert judge_objects([]).ok
    reference = ObjectReference.to(bytes(300_000))
    lost = [OwedObject(leaf_index=n, run="r1", key="U", reference=reference) for n in range(12)]
    finding = judge_objects(lost)
    assert not finding.ok
    assert "lost 12" in finding.detail
    assert "300000 bytes of event 3 in run r1" in finding.detail
    assert finding.detail.count("in run r1") == NAMED
    assert "swarm recover" in finding.hint


def test_a_model_without_room_is_told_with_the_reason() -> None:
    assert judge_fit("qwen3-8b", []).ok
    finding = judge_fit("qwen3-8b", ["qwen3-8b needs 1 GPU; none was found."])
    assert not finding.ok
    assert finding.detail == "qwen3-8b needs 1 GPU; none was found."
    assert "swarm models" in finding.hint


def test_what_embeds_is_named_or_what_is_missing_of_it() -> None:
    assert judge_embedder("all-minilm-l6-v2").detail == "all-minilm-l6-v2"
    finding = judge_embedder("x", "no model profile 'x'")
    assert (finding.ok, finding.detail) == (False, "no model profile 'x'")
