"""An answer asked for again, and held against its receipt. Pure.

The prompt is not in the log: it is built again from the assignment, as the agent built it, and
counts only if its digest is the one of the receipt.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from pydantic import JsonValue

from actors.errors import ActorError, AnswerRejected, CannotCheck, ModelAsked
from actors.model import Completion, Engine, ModelRequest
from actors.prompt import parse_answer
from actors.question import Meter
from actors.receipt import answer_digest, prompt_digest, schema_digest
from actors.rework import at_once
from actors.roles import RoleSpec
from actors.step_agent import ask_model
from actors.tool import Tool
from actors.tool_record import RecordedCall, RecordedTools, calls_in
from actors.tool_rounds import MAX_CALLS, answer_with_tools, parse_turn
from actors.toolbox import Wanted
from bus.answer_receipt import Digests, Receipt
from bus.event import StoredEvent
from bus.memory_payloads import ItemReference
from bus.payloads import StepAssigned, StepCompleted, StepFailed
from bus.received import Received

Outcome = StepCompleted | StepFailed
_AROUND: Final = 24
"""Characters that are quoted from where two texts differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """An answer in the log that has a receipt, and the assignment that it answers."""

    event: StoredEvent
    assigned: StepAssigned
    outcome: Outcome
    receipt: Receipt
    digests: Digests
    calls: tuple[RecordedCall, ...] = ()
    """Of tools, before the answer."""

    @property
    def recalled(self) -> tuple[ItemReference, ...]:
        """What of the memory the agent had read."""
        return self.outcome.recalled if isinstance(self.outcome, StepCompleted) else ()

    @property
    def answer(self) -> Mapping[str, JsonValue] | None:
        """What was accepted of the model's text; None of an attempt that failed."""
        return self.outcome.answer if isinstance(self.outcome, StepCompleted) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What a model was asked, built again.

    Attributes:
        request: with the sampling of the receipt.
        with_tools: whether it might have called a tool instead of answering.
    """

    request: ModelRequest
    with_tools: bool = False


class _Listening:
    """Writes what it is told to, then takes a question and gives no answer; implements `Model`.

    Args:
        turns: what it writes first.
    """

    def __init__(self, turns: Sequence[str] = ()) -> None:
        self._turns = list(turns)
        self.request: ModelRequest | None = None

    async def connect(self) -> None:
        """There is nothing to connect to."""

    async def complete(self, request: ModelRequest) -> Completion:
        """Note what is asked.

        Raises:
            ModelAsked: there is no turn left.
        """
        if self._turns:
            text = self._turns.pop(0)
            return Completion(text=text, prompt_tokens=0, completion_tokens=0, model="")
        self.request = request
        raise ModelAsked


def recorded_in(events: Sequence[Received], event_id: str) -> Recorded:
    """The answer with an id, among the events of its run.

    Raises:
        CannotCheck: it has no receipt, or nobody can read any more what was said.
    """
    stored = {each.event.id: each for each in events if isinstance(each, StoredEvent)}
    event = stored.get(event_id)
    outcome = None if event is None else event.payload()
    if event is None or not isinstance(outcome, StepCompleted | StepFailed):
        raise CannotCheck(f"event {event_id[:64]!r} is not what came of a step")
    if outcome.receipt is None:
        raise CannotCheck(f"event {event_id[:64]!r} has no receipt: no model gave that answer")
    claim = stored.get(event.event.cause or "")
    assignment = stored.get("" if claim is None else claim.event.cause or "")
    assigned = None if assignment is None else assignment.payload()
    if assignment is None or not isinstance(assigned, StepAssigned):
        raise CannotCheck(f"the assignment that {event_id[:64]!r} answers is not in the log")
    if outcome.digests is None or event.event.is_withheld or assignment.event.is_withheld:
        raise CannotCheck("what was said is erased, or sealed for somebody whose key is not here")
    return Recorded(
        event=event,
        assigned=assigned,
        outcome=outcome,
        receipt=outcome.receipt,
        digests=outcome.digests,
        calls=calls_in(events, event.event.cause or ""),
    )


def question_of(
    recorded: Recorded, spec: RoleSpec, memory: str = "", tools: tuple[Tool, ...] = ()
) -> Rebuilt:
    """What the model was asked, with the sampling of the receipt.

    Args:
        recorded: the answer.
        spec: the task of the agent that gave it.
        memory: what it was told of the memory.
        tools: those that such an agent has now.

    Raises:
        CannotCheck: this version of the software asks something else.
    """
    turns = [each.turn for each in recorded.calls]
    if turns and not tools:
        raise CannotCheck("a tool was called for it, and such agents have none here")
    ways: list[tuple[tuple[Tool, ...], Sequence[str]]] = [(tools, turns)]
    if turns:
        ways.append((tools, [*turns, turns[-1]]))  # one that repeats itself loses its tools
    elif tools:
        ways.append(((), ()))
    receipt = recorded.receipt
    for at_hand, said in ways:
        request = _request(recorded, spec, memory, at_hand, said)
        if request is None or prompt_digest(request.messages) != recorded.digests.prompt:
            continue
        if schema_digest(request.schema) != receipt.answer_schema:
            raise CannotCheck(
                "the answer's schema differs: this version of the software has another"
            )
        sampled = replace(
            request,
            max_tokens=receipt.max_tokens,
            temperature=receipt.temperature,
            seed=receipt.seed,
        )
        with_tools = bool(at_hand) and len(said) == len(turns) < MAX_CALLS
        return Rebuilt(request=sampled, with_tools=with_tools)
    with_theirs = ", or its tools are others" if tools else ""
    raise CannotCheck(
        f"the prompt differs: this version of the software builds another{with_theirs}"
    )


def _request(
    recorded: Recorded,
    spec: RoleSpec,
    memory: str,
    tools: tuple[Tool, ...],
    turns: Sequence[str],
) -> ModelRequest | None:
    """The last question of an attempt whose model had written these turns before."""
    model, run = _Listening(turns), recorded.event.event.run
    at_hand = RecordedTools(tools=tools, calls=recorded.calls)
    work = (
        answer_with_tools(Meter(model), spec, run, recorded.assigned, at_hand, memory=memory)
        if tools
        else ask_model(model, spec, run, recorded.assigned, memory)
    )
    try:
        with suppress(ModelAsked):  # what was asked is all that is wanted
            at_once(work)
    except ActorError as error:
        raise CannotCheck(f"the prompt cannot be built again: {error}") from error
    return model.request


def difference(recorded: Recorded, spec: RoleSpec, text: str, *, with_tools: bool = False) -> str:
    """Where a new answer differs from the recorded one; empty where it is the same to the byte.

    Args:
        recorded: the answer in the log; of its text only the digest is known.
        spec: says how an answer is read.
        text: what the model wrote now.
        with_tools: whether it might have called a tool.
    """
    if answer_digest(text) == recorded.digests.answer:
        return ""
    if recorded.answer is None:
        return "it is another text; of a failed attempt the log keeps the digest only"
    try:
        turn = parse_turn(text) if with_tools else text
        if isinstance(turn, Wanted):
            return f"it calls the tool {turn.tool} now"
        answer = parse_answer(spec, turn, recorded.assigned)
    except AnswerRejected as error:
        return f"it is no answer now: {error}"
    first = next(_differences("", dict(recorded.answer), answer), None)
    return first or "it says the same, and is written otherwise (white space, order, escapes)"


def engine_changes(receipt: Receipt, now: Engine, provider: str = "") -> tuple[str, ...]:
    """What is different in who answers now, each as a line; what is not known is not compared."""
    then = Engine(name=receipt.engine, version=receipt.version, weights=receipt.weights)
    pairs = (
        (
            "provider",
            receipt.provider or "the swarm's own engine",
            provider or "the swarm's own engine",
        ),
        ("engine", then.name, now.name),
        ("version", then.version, now.version),
        ("weights", then.weights, now.weights),
    )
    return tuple(
        f"{what}: {was} then, {is_} now" for what, was, is_ in pairs if was and is_ and was != is_
    )


def is_same_model(receipt: Receipt, now: Engine, provider: str = "") -> bool:
    """Whether nothing shows that another model answers under the name. A version may differ."""
    return receipt.provider == provider and not (
        receipt.weights and now.weights and receipt.weights != now.weights
    )


def _differences(where: str, was: JsonValue, now: JsonValue) -> Iterator[str]:
    """Each place at which two values differ, in their order."""
    if isinstance(was, dict) and isinstance(now, dict):
        for name in [*was, *(name for name in now if name not in was)]:
            place = f"{where}.{name}" if where else name
            if name not in now or name not in was:
                yield f"{place}: only {'then' if name in was else 'now'}"
            else:
                yield from _differences(place, was[name], now[name])
    elif isinstance(was, list) and isinstance(now, list):
        for index, (one, other) in enumerate(zip(was, now, strict=False)):
            yield from _differences(f"{where}.{index}", one, other)
        if len(was) != len(now):
            yield f"{where}: {len(was)} items then, {len(now)} now"
    elif isinstance(was, str) and isinstance(now, str):
        if was != now:
            yield f"{where}, {_first_character(was, now)}"
    elif was != now:
        yield f"{where}: {was!r:.60} then, {now!r:.60} now"


def _first_character(was: str, now: str) -> str:
    pairs = zip(was, now, strict=False)
    at = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(was), len(now)))
    begin = max(0, at - _AROUND)
    one, other = (text[begin : at + _AROUND] for text in (was, now))
    return f"character {at + 1}: {one!r} then, {other!r} now"
