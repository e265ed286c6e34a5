"""Keys of people in a process: asked for once in a while, not kept for long."""

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from bus.errors import (
    ConsumptionDenied,
    SealingFailed,
    SubjectKeyRefused,
    SubjectKeyUnavailable,
)
from bus.event import Draft
from bus.payload import ERASED
from bus.payloads import CancelRequested, RunCompleted, StallNoticed, Usage
from bus.subject_keys import LIFE_S, MOST_KEPT, KeptKeys
from bus.vault import Vault
from tests.sending import new_sender

KEY = bytes(range(32))


@dataclass
class Clock:
    """Seconds that stand until they are moved."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Custodian:
    """Answers with what is set, and counts how often it was asked."""

    keys: dict[str, bytes] = field(default_factory=dict)
    error: Exception | None = None
    asked: list[tuple[str, bool]] = field(default_factory=list)
    was_asked: asyncio.Event = field(default_factory=asyncio.Event)
    answering: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.answering.set()

    async def ask(self, subject: str, to_seal: bool) -> bytes | None:  # noqa: FBT001 - of type Ask
        self.asked.append((subject, to_seal))
        self.was_asked.set()
        await self.answering.wait()
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return self.keys.get(subject)


async def test_an_answer_is_remembered_for_a_while_and_no_longer() -> None:
    clock, custodian = Clock(), Custodian({"ann": KEY})
    keys = KeptKeys(custodian.ask, clock=clock)
    assert await keys.key_of("ann") == await keys.key_of("ann", to_seal=True) == KEY
    assert len(custodian.asked) == 1
    custodian.keys.clear()
    clock.now += LIFE_S - 0.001
    assert await keys.key_of("ann") == KEY
    clock.now += 0.002
    assert await keys.key_of("ann") is None


async def test_that_there_is_no_key_does_not_keep_one_from_being_made() -> None:
    custodian = Custodian()
    keys = KeptKeys(custodian.ask, clock=Clock())
    assert await keys.key_of("ann") is None
    custodian.keys["ann"] = KEY
    assert await keys.key_of("ann") is None
    assert await keys.key_of("ann", to_seal=True) == KEY
    assert custodian.asked == [("ann", False), ("ann", True)]


async def test_many_who_want_the_same_ask_once() -> None:
    custodian = Custodian({"ann": KEY})
    custodian.answering.clear()
    keys = KeptKeys(custodian.ask)
    waiting = asyncio.gather(*(keys.key_of("ann") for _ in range(20)))
    await custodian.was_asked.wait()
    custodian.answering.set()
    assert set(await waiting) == {KEY}
    assert len(custodian.asked) == 1


async def test_only_so_many_are_remembered() -> None:
    custodian = Custodian({str(n): KEY for n in range(MOST_KEPT + 1)})
    keys = KeptKeys(custodian.ask, clock=Clock())
    for n in range(MOST_KEPT + 1):
        await keys.key_of(str(n))
    await keys.key_of(str(MOST_KEPT))
    assert len(custodian.asked) == MOST_KEPT + 1
    await keys.key_of("0")
    assert len(custodian.asked) == MOST_KEPT + 2


async def test_who_does_not_answer_is_asked_again() -> None:
    custodian = Custodian({"ann": KEY}, error=RuntimeError("died"))
    assert await KeptKeys(custodian.ask).key_of("ann") == KEY
    assert len(custodian.asked) == 2


async def test_a_refusal_is_final() -> None:
    custodian = Custodian({"ann": KEY}, error=ConsumptionDenied("not yours"))
    with pytest.raises(SubjectKeyRefused, match="not yours"):
        await KeptKeys(custodian.ask).key_of("ann")
    assert len(custodian.asked) == 1


async def test_what_is_refused_stays_sealed_and_stops_nobody() -> None:
    custodian = Custodian(error=ConsumptionDenied("not yours"))
    payload = CancelRequested(requested_by="Ann")
    draft = Draft(run="r1", payload=payload, id="e1", on_behalf_of="ann").sealed_under(KEY)
    event = replace(new_sender().sign(draft), opened=None)
    seen = await Vault(KeptKeys(custodian.ask)).opened(event)
    assert seen.is_withheld
    assert not seen.is_erased


@pytest.mark.parametrize("key", [None, bytes(32)])
async def test_what_was_not_kept_or_is_under_another_key_counts_as_erased(
    key: bytes | None,
) -> None:
    custodian = Custodian({"ann": KEY})
    payload = CancelRequested(requested_by="Ann")
    draft = Draft(run="r1", payload=payload, id="e1", on_behalf_of="ann").sealed_under(key)
    event = replace(new_sender().sign(draft), opened=None)
    seen = await Vault(KeptKeys(custodian.ask)).opened(event)
    assert seen.is_erased
    assert seen.payload() == CancelRequested(requested_by=ERASED, reason=ERASED)


async def test_what_is_large_is_sealed_and_opened_as_well() -> None:
    vault = Vault(KeptKeys(Custodian({"ann": KEY}).ask))
    payload = RunCompleted(
        document="x" * 200_000, steps=1, usage=Usage(prompt_tokens=1, completion_tokens=1)
    )
    sealed = await vault.sealed(Draft(run="r1", payload=payload, id="e1", on_behalf_of="ann"))
    event = replace(new_sender("coordinator").sign(sealed), opened=None)
    assert (await vault.opened(replace(event, content=sealed.body))).payload() == payload


async def test_an_answer_that_was_on_its_way_for_long_is_not_kept_for_longer() -> None:
    clock, custodian = Clock(), Custodian({"ann": KEY})

    async def slowly(subject: str, to_seal: bool) -> bytes | None:  # noqa: FBT001 - of type Ask
        clock.now += LIFE_S + 1
        return await custodian.ask(subject, to_seal)

    keys = KeptKeys(slowly, clock=clock)
    await keys.key_of("ann")
    await keys.key_of("ann")
    assert len(custodian.asked) == 2


async def test_all_who_wait_in_vain_have_waited_once() -> None:
    custodian = Custodian()
    custodian.answering.clear()
    keys = KeptKeys(custodian.ask, deadline_s=1.0)
    async with asyncio.timeout(20):
        failed = await asyncio.gather(
            *(keys.key_of("ann") for _ in range(50)), return_exceptions=True
        )
    assert {type(error) for error in failed} == {SubjectKeyUnavailable}


async def test_who_gives_up_takes_no_answer_from_the_others() -> None:
    custodian = Custodian({"ann": KEY})
    custodian.answering.clear()
    keys = KeptKeys(custodian.ask)
    first, second = (asyncio.create_task(keys.key_of("ann")) for _ in range(2))
    await custodian.was_asked.wait()
    second.cancel()
    await asyncio.wait((second,))
    third = asyncio.create_task(keys.key_of("ann"))
    custodian.answering.set()
    assert await first == await third == KEY
    assert len(custodian.asked) == 1


async def test_no_key_is_shown() -> None:
    keys = KeptKeys(Custodian({"ann": KEY}).ask)
    await keys.key_of("ann")
    assert "ann" in repr(keys._kept)
    assert repr(KEY) not in repr(keys._kept)


async def test_asking_ends_in_time() -> None:
    custodian = Custodian()
    custodian.answering.clear()
    with pytest.raises(SubjectKeyUnavailable):
        await KeptKeys(custodian.ask, deadline_s=0.05).key_of("ann")


async def test_nothing_personal_is_said_as_long_as_the_key_is_not_to_be_had() -> None:
    custodian = Custodian(error=ConsumptionDenied("not yours"))
    draft = Draft(
        run="r1", payload=CancelRequested(requested_by="Ann"), id="e1", on_behalf_of="ann"
    )
    with pytest.raises(SealingFailed) as raised:
        await Vault(KeptKeys(custodian.ask)).sealed(draft)
    assert raised.value.retryable
    assert isinstance(raised.value.__cause__, SubjectKeyRefused)


async def test_what_is_about_nobody_needs_no_key() -> None:
    custodian = Custodian()
    vault = Vault(KeptKeys(custodian.ask))
    about_nobody = Draft(run="r1", payload=CancelRequested(requested_by="Ann"), id="e1")
    notice = StallNoticed.model_validate(
        {"code": "queued", "waits_for": "x", "since": "2026-01-01T00:00:00Z"}
    )
    not_personal = Draft(run="r1", payload=notice, id="e2", on_behalf_of="ann")
    for draft in (about_nobody, not_personal):
        assert await vault.sealed(draft) is draft
    assert custodian.asked == []


async def test_without_keys_nothing_is_sealed_and_everybody_is_kept() -> None:
    draft = Draft(
        run="r1", payload=CancelRequested(requested_by="Ann"), id="e1", on_behalf_of="ann"
    )
    assert await Vault(None).sealed(draft) is draft
    assert await Vault(None).keeps("ann")
