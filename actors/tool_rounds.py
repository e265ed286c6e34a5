"""How an agent comes to an answer with tools: it asks its model, which calls one or answers.

Each question stands alone: what tools have answered so far is material beside all other, and
is cut with it to fit the model's context. After so many calls an answer is due.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import structlog
from pydantic import JsonValue
from pydantic_core import from_json, to_json

from actors.attempt import Report
from actors.errors import AnswerRejected
from actors.prompt import build_messages, parse_answer, schema_for
from actors.question import Meter, Question, ask, usage_of
from actors.roles import RoleSpec
from actors.tool import Tool
from actors.tool_introduction import Introduction, introduce
from actors.toolbox import Came, Wanted
from bus.payloads import StepAssigned

log = structlog.get_logger()

MAX_CALLS: Final = 4
"""In one attempt; a small model calls without end."""
_NAME_CHARS: Final = 128

Schema = Mapping[str, JsonValue]


class AtHand(Protocol):
    """The tools of an attempt."""

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Those that may be called."""
        ...

    async def use(self, wanted: Wanted, number: int) -> Came:
        """Call one; `number` counts the calls of the attempt from 1."""
        ...


async def answer_with_tools(
    meter: Meter,
    spec: RoleSpec,
    run: str,
    assigned: StepAssigned,
    at_hand: AtHand,
    *,
    tool_first: bool = False,
    memory: str = "",
) -> Report:
    """What a model makes of a step, with tools at hand.

    Args:
        meter: is asked once for each call, and once for the answer; has answered nothing yet.
        spec: the task.
        run: from its id and the attempt follows the seed.
        assigned: the step.
        at_hand: the tools.
        tool_first: whether a call has to come before the answer.
        memory: what was recalled for it.

    Raises:
        AnswerRejected: it answered something else.
        BudgetExhausted: there were not enough tokens left for an answer.
        PromptTooLarge: the step has too much to say.
        RunEnded, PublishError: a call could not be written down.
        serve.errors.ModelError: it did not answer.
    """
    introduced = _introduced(at_hand, assigned.role)
    tools = introduced.tools
    made: list[Wanted] = []
    found: list[tuple[str, str]] = []
    while True:
        offered = tools if len(made) < MAX_CALLS else ()
        question = _question(
            spec,
            assigned,
            offered,
            found,
            introduction=introduced.text if offered else "",
            number=len(made),
            only_call=tool_first and not made,
            memory=memory,
        )
        completion = await ask(meter, question, run, assigned, meter.tokens)
        turn = parse_turn(completion.text) if offered else completion.text
        if isinstance(turn, Wanted) and turn in made:
            tools = ()  # it would get the same again
            made += [turn] * MAX_CALLS
        elif isinstance(turn, Wanted):
            made.append(turn)
            came = await at_hand.use(turn, len(made))
            found.append((f"Tool {turn.tool[:_NAME_CHARS]}, call {len(made)}", told(turn, came)))
        else:
            answer = parse_answer(spec, turn, assigned)
            usage = usage_of(meter.answered or completion)
            return Report(answer=answer, model=completion.model, usage=usage)


def parse_turn(text: str) -> Wanted | str:
    """The call, or the answer as JSON, in what a model wrote.

    Raises:
        AnswerRejected: it is neither.
    """
    try:
        turn = from_json(text.strip())
    except ValueError as error:
        raise AnswerRejected("neither a call of a tool nor an answer: it is not JSON") from error
    match turn:
        case {"call": str(tool), "arguments": dict(arguments)} if len(turn) == 2:  # noqa: PLR2004
            if not _is_tool_name(tool):
                raise AnswerRejected("the call names no tool")
            return Wanted(tool=tool, arguments=arguments)
        case {"answer": dict(answer)} if len(turn) == 1:
            return to_json(answer).decode()
    raise AnswerRejected("neither a call of a tool nor an answer")


def turn_schema(tools: Sequence[Tool], answer: Schema | None) -> dict[str, JsonValue]:
    """The JSON schema of a turn: one of the calls, or the answer if there may be one."""
    definitions: dict[str, JsonValue] = {}
    turns: list[JsonValue] = []
    for number, tool in enumerate(tools):
        arguments = _nested(tool.schema, f"tool{number}.", definitions)
        turns.append(_object({"call": {"const": tool.name}, "arguments": arguments}))
    if answer is not None:
        turns.append(_object({"answer": _nested(answer, "answer.", definitions)}))
    schema: dict[str, JsonValue] = {"anyOf": turns}
    return {**schema, "$defs": definitions} if definitions else schema


def told(wanted: Wanted, came: Came) -> str:
    """What a model is told of a call."""
    asked = to_json(wanted.arguments).decode()
    if came.outcome == "answered":
        result = came.result
        answer = result if isinstance(result, str) else to_json(result).decode()
    else:
        answer = f"{came.outcome}: {came.message}"
    return f"Asked: {asked}\nAnswer: {answer}"


def _introduced(at_hand: AtHand, role: str) -> Introduction:
    introduced = introduce(at_hand.tools)
    if introduced.left_out:
        log.warning("tools.left_out", role=role, tools=introduced.left_out)
    return introduced


def _question(
    spec: RoleSpec,
    assigned: StepAssigned,
    tools: Sequence[Tool],
    found: Sequence[tuple[str, str]],
    *,
    introduction: str,
    number: int,
    only_call: bool,
    memory: str,
) -> Question:
    answer = schema_for(spec, assigned.answer_schema)
    messages = build_messages(
        spec,
        assigned.objective,
        assigned.inputs,
        each=assigned.each,
        instructions=assigned.instructions,
        answer_schema=assigned.answer_schema,
        tools=introduction,
        found=found,
        memory=memory,
    )
    return Question(
        messages=messages,
        schema=turn_schema(tools, None if only_call else answer) if tools else answer,
        max_tokens=spec.max_tokens,
        number=number,
    )


def _object(properties: dict[str, JsonValue]) -> dict[str, JsonValue]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _nested(schema: Schema, prefix: str, definitions: dict[str, JsonValue]) -> JsonValue:
    """A schema as a part of another one: what it defines for itself moves up, under new names."""
    own = schema.get("$defs")
    if isinstance(own, dict):
        definitions |= {f"{prefix}{name}": _renamed(each, prefix) for name, each in own.items()}
    return _renamed({name: each for name, each in schema.items() if name != "$defs"}, prefix)


def _renamed(part: JsonValue, prefix: str) -> JsonValue:
    if isinstance(part, list):
        return [_renamed(each, prefix) for each in part]
    if not isinstance(part, dict):
        return part
    renamed = {name: _renamed(each, prefix) for name, each in part.items()}
    if isinstance(reference := part.get("$ref"), str):
        renamed["$ref"] = reference.replace("#/$defs/", f"#/$defs/{prefix}", 1)
    return renamed


def _is_tool_name(text: str) -> bool:
    parts = text.split(".")
    return len(text) <= _NAME_CHARS and len(parts) <= 2 and all(map(_is_word, parts))  # noqa: PLR2004


def _is_word(text: str) -> bool:
    return text.isascii() and text.replace("-", "a").replace("_", "a").isalnum()
