"""Checkpoints, proofs and evidence over HTTP."""

import pytest

from serve.evidence import own_note
from serve.ports import Limits
from storage.merkle import leaf_hash, verify_consistency, verify_inclusion
from storage.run_owners import RunOwner
from swarm.verify import verify
from tests.evidence import small
from tests.unit.serve.fakes import Fakes, submit

SIZES = [4, 8, 10]


def fakes() -> Fakes:
    """A log of ten leaves with three checkpoints."""
    made = Fakes()
    made.have_audited(small(), list(SIZES))
    return made


async def test_the_latest_checkpoint_is_a_note_as_it_was_signed() -> None:
    made = fakes()
    async with made.client("vic") as client:
        latest = await client.get("/v1/audit/checkpoint")
        earlier = await client.get("/v1/audit/checkpoint?size=4")
        none = await client.get("/v1/audit/checkpoint?size=5")
    assert latest.text == made.audit.ledger.checkpoint(10).note
    assert latest.headers["content-type"] == "text/plain; charset=utf-8"
    assert earlier.text == made.audit.ledger.checkpoint(4).note
    assert (none.status_code, none.json()["code"]) == (404, "not_found")


async def test_a_checkpoint_is_given_with_the_cosignatures_that_it_has() -> None:
    made, line = fakes(), "\u2014 witness.example/w1 AAAA"
    async with made.client("vic") as client:
        none = await client.get("/v1/audit/checkpoint?cosigned=true")
        made.audit.cosignatures[4] = [line]
        latest = await client.get("/v1/audit/checkpoint")
        newest = await client.get("/v1/audit/checkpoint?cosigned=true")
        named = await client.get("/v1/audit/checkpoint?size=4")
        other = await client.get("/v1/audit/checkpoint?size=10&cosigned=true")
    assert latest.text == made.audit.ledger.checkpoint(10).note
    assert newest.text == named.text == f"{made.audit.ledger.checkpoint(4).note}{line}\n"
    assert none.status_code == other.status_code == 404
    assert none.json()["detail"] == "No witness has cosigned such a checkpoint."


async def test_an_empty_log_has_no_checkpoint() -> None:
    async with Fakes().client("vic") as client:
        answers = [
            await client.get(path)
            for path in ("checkpoint", "inclusion?leaf=0", "consistency?old=1")
            for path in (f"/v1/audit/{path}",)
        ]
    assert [answer.status_code for answer in answers] == [404, 404, 404]


async def test_the_proofs_check_out() -> None:
    made = fakes()
    ledger = made.audit.ledger
    async with made.client("vic") as client:
        for size in (8, 10):
            root = ledger.checkpoint(size).root
            for leaf in range(size):
                told = (await client.get(f"/v1/audit/inclusion?leaf={leaf}&size={size}")).json()
                assert (told["leaf"], told["size"]) == (leaf, size)
                hashed = leaf_hash(ledger.events()[leaf].leaf.encode())
                proof = [bytes.fromhex(each) for each in told["proof"]]
                verify_inclusion(leaf=hashed, index=leaf, size=size, proof=proof, root=root)
            told = (await client.get(f"/v1/audit/consistency?old=4&new={size}")).json()
            assert (told["old"], told["new"]) == (4, size)
            verify_consistency(
                old=4,
                new=size,
                proof=[bytes.fromhex(each) for each in told["proof"]],
                old_root=ledger.checkpoint(4).root,
                new_root=root,
            )
        latest = (await client.get("/v1/audit/inclusion?leaf=9")).json()
    assert latest["size"] == 10


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("inclusion?leaf=10", "leaf"),
        ("inclusion?leaf=4&size=4", "leaf"),
        ("inclusion?leaf=0&size=0", "size"),
        ("inclusion?leaf=-1", "leaf"),
        ("inclusion?leaf=x", "leaf"),
        ("inclusion", "leaf"),
        ("inclusion?leaf=99999999999999999999999", "leaf"),
        ("consistency?old=5&new=4", "old"),
        ("consistency?old=11", "old"),
        ("consistency?old=0", "old"),
        ("consistency", "old"),
        ("checkpoint?size=0", "size"),
        ("checkpoint?size=9007199254740993", "size"),
    ],
)
async def test_sizes_that_there_are_not_are_problems(query: str, field: str) -> None:
    async with fakes().client("vic") as client:
        answer = await client.get(f"/v1/audit/{query}")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"][0]["field"] == field


@pytest.mark.parametrize("query", ["inclusion?leaf=0&size=11", "consistency?old=1&new=11"])
async def test_a_size_that_the_log_has_not_reached_is_not_found(query: str) -> None:
    async with fakes().client("vic") as client:
        answer = await client.get(f"/v1/audit/{query}")
    assert answer.status_code == 404
    assert answer.json()["detail"] == "The log has 10 leaves so far."


@pytest.mark.parametrize("query", ["", "?size=8", "?since=4", "?size=10&since=8", "?since=10"])
async def test_the_evidence_of_a_run_is_proven_by_the_independent_verifier(query: str) -> None:
    made = fakes()
    async with made.client("vic") as client:
        answer = await client.get(f"/v1/runs/r1/evidence{query}")
    assert answer.headers["content-type"] == "application/json"
    proven = verify(answer.content, made.audit.ledger.operator.public)
    assert (proven.run, proven.accepted) == ("r1", 3)
    assert proven.extends == (int(query[-2:].strip("=")) if "since" in query else None)


async def test_evidence_that_cannot_be_given_is_refused_with_a_reason() -> None:
    made = fakes()
    await submit(made.log, "r7")
    async with made.client("vic") as client:
        unknown = await client.get("/v1/runs/r9/evidence")
        reserved = [await client.get(f"/v1/runs/{run}/evidence") for run in ("swarm", "trust")]
        not_yet = await client.get("/v1/runs/r7/evidence")
        no_checkpoint = await client.get("/v1/runs/r1/evidence?size=9")
        backwards = await client.get("/v1/runs/r1/evidence?size=8&since=10")
    assert unknown.status_code == no_checkpoint.status_code == 404
    assert [answer.status_code for answer in reserved] == [404, 404]
    assert (not_yet.status_code, not_yet.json()["code"]) == (409, "conflict")
    assert (backwards.status_code, backwards.json()["errors"][0]["field"]) == (422, "since")


async def test_the_evidence_of_a_run_is_for_who_may_see_the_run() -> None:
    made = fakes()
    made.owners.owners["r1"] = RunOwner(user="somebody", tenant="elsewhere")
    async with made.client("vic") as client:
        assert (await client.get("/v1/runs/r1/evidence")).status_code == 404
    async with made.client("ada") as client:
        assert (await client.get("/v1/runs/r1/evidence")).status_code == 200


async def test_a_log_that_went_on_for_too_long_asks_for_an_earlier_checkpoint() -> None:
    async with fakes().client("vic", Limits(evidence_tail_leaves=1)) as client:
        answer = await client.get("/v1/runs/r1/evidence")
        earlier = await client.get("/v1/runs/r1/evidence?size=8")
    assert (answer.status_code, earlier.status_code) == (409, 200)
    assert "2 leaves follow the run's last one, 7" in answer.json()["detail"]


def test_a_bundle_holds_the_logs_own_signature_only() -> None:
    signed = small().checkpoint()
    cosigned = type(signed)(
        size=signed.size,
        root=signed.root,
        note=signed.note + "\u2014 witness.example/w " + "A" * 100 + "\n",
        signed_at=signed.signed_at,
    )
    assert own_note(cosigned) == own_note(signed) == signed.note
