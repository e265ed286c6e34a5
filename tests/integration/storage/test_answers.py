"""The latest answers, read from the audit log on a real Postgres."""

from dataclasses import replace

from bus.answer_receipt import Digests, Receipt
from bus.payloads import StepCompleted, StepFailed, Usage
from storage.answers import Answered, latest_answers
from storage.audit import AuditStore
from storage.leaf import AuditRecord
from storage.postgres import Pool
from tests.integration.storage.test_audit import SIGN, record

WEIGHTS = "ab" * 32
RECEIPT = Receipt(
    engine="vllm",
    version="0.29.0",
    weights=WEIGHTS,
    temperature=0.2,
    seed=1,
    max_tokens=9,
    answer_schema="",
)
DIGESTS = Digests(prompt="cd" * 32, answer="ef" * 32)


def answer(sequence: int, receipt: Receipt | None) -> AuditRecord:
    """As it is in the log: what is personal is sealed."""
    payload = StepCompleted(
        step="plan", iteration=1, attempt=1, epoch=1, answer={}, model="m",
        usage=Usage(prompt_tokens=1, completion_tokens=1), duration_ms=1, receipt=receipt,
        digests=DIGESTS,
    )  # fmt: skip
    body = payload.model_dump_json(exclude=set(payload.PERSONAL))
    return replace(record(sequence), data=(body[:-1] + ',"sealed":"x"}').encode())


async def test_the_latest_come_first_and_only_what_has_a_receipt_of_ours(pool: Pool) -> None:
    failed = replace(answer(6, RECEIPT), type=StepFailed.TYPE)
    records = [
        record(1),  # of another form
        answer(2, None),
        answer(3, RECEIPT),
        answer(4, RECEIPT.model_copy(update={"provider": "openai", "weights": ""})),
        replace(answer(5, RECEIPT), type="swarm.step.claimed.v1"),
        failed,
        replace(record(7, refused=True), data=answer(7, RECEIPT).data),
        replace(record(8), data=b""),  # an object
    ]
    await AuditStore(pool).append(records, SIGN)
    found = await latest_answers(pool)
    assert [each.event for each in found] == ["id-6", "id-3"]
    assert found[1] == Answered(event="id-3", run="r1", model="m", weights=WEIGHTS)
    assert [each.event for each in await latest_answers(pool, 2)] == ["id-6"]
