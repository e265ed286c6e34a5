"""How it stands with the witnesses, as `swarm status` and the doctor say it."""

from dataclasses import replace
from datetime import UTC, datetime

from cluster.log_status import LogStatus
from cluster.witness_status import WitnessStatus, witness_statuses
from storage.cosignature import CosignerKey, WitnessAddress
from storage.witnessed import WitnessState
from swarm.cli.lifecycle import witness_parts

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ONE, OTHER = (
    WitnessAddress(
        url=f"https://{name}.example", key=CosignerKey(name=f"{name}.example", public_key=key * 32)
    )
    for name, key in (("one", b"1"), ("other", b"2"))
)
NOTED = WitnessState(
    witness=str(ONE.key),
    url=ONE.url,
    size=20,
    cosigned_at=NOON,
    asked_at=NOON,
    problem="",
    detail="",
)


def status(noted: WitnessState, size: int) -> WitnessStatus:
    (found,) = witness_statuses([ONE], [noted], size)
    return found


def test_a_witness_that_follows_is_healthy_and_its_lag_is_shown() -> None:
    found = status(NOTED, 23)
    assert (found.healthy, found.lag, found.detail) == (True, 3, "cosigned 20 of 23")
    assert found.finding().ok


def test_what_the_auditor_noted_is_said() -> None:
    noted = replace(NOTED, problem="silent", detail="It does not answer: refused")
    found = status(noted, 23)
    assert not found.healthy
    assert found.detail == "cosigned 20 of 23: It does not answer: refused"
    assert "SWARM_WITNESSES" in found.finding().hint
    assert "compare" in status(replace(noted, problem="branch"), 23).finding().hint


def test_a_log_with_less_than_was_cosigned_is_seen_without_the_auditor() -> None:
    found = status(NOTED, 12)
    assert (found.healthy, found.problem, found.lag) == (False, "ahead", -8)


def test_only_witnesses_of_the_settings_are_shown_each_once() -> None:
    found = witness_statuses([OTHER], [NOTED], 5)
    assert [(one.name, one.detail) for one in found] == [("other.example", "not asked yet")]
    assert witness_statuses([OTHER], [], 0)[0].healthy
    assert witness_statuses([], [NOTED], 5) == []


def test_they_stand_among_the_parts_and_in_the_document() -> None:
    log = LogStatus(witnesses=(status(NOTED, 23),))
    (part,) = witness_parts(log)
    assert (part.name, part.address, part.healthy) == ("witness one.example", ONE.url, True)
    document = log.document()["witnesses"]
    assert document == [
        {
            "name": "one.example",
            "url": "https://one.example",
            "healthy": True,
            "cosigned": 20,
            "lag": 3,
            "problem": "",
            "detail": "cosigned 20 of 23",
        }
    ]
