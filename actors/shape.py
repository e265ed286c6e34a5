"""Whether an answer has the shape that was asked for. Pure: nothing is fetched.

The answer of a built-in role has the shape of that role (`actors.roles`), unless its step
declares another; any other role's answer has the shape that its step declares, as a JSON
schema of draft 2020-12.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from pydantic import JsonValue
from pydantic_core import from_json, to_json
from referencing import Registry

from actors.errors import AnswerRejected, InvalidStep
from actors.roles import role_spec

MAX_SCHEMA_BYTES: Final = 16_384
"""A schema goes with every assignment of its step."""
MAX_LEVELS: Final = 64
"""Of an answer: events that hand it on nest it deeper, and who reads them goes to 200 at most."""
_PART_CHARS: Final = 80
_CACHED: Final = 512

Schema = Mapping[str, JsonValue]


def check_schema(step: str, schema: Schema, *, max_bytes: int = MAX_SCHEMA_BYTES) -> None:
    """Refuse what cannot be the schema of an answer.

    Raises:
        InvalidStep: it is no JSON schema, is over `max_bytes`, or refers to another.
    """
    try:
        written = to_json(schema)
        if len(written) > max_bytes:  # before any work is done on it
            raise InvalidStep(
                f"the answer schema of step {step} has {len(written)} bytes, at most {max_bytes}"
            )
        Draft202012Validator.check_schema(from_json(written))
    except SchemaError as error:
        where = ".".join(map(str, error.path)) or "its top"
        raise InvalidStep(
            f"the answer schema of step {step} is no JSON schema: {where[:_PART_CHARS]}"
        ) from error
    except ValueError as error:
        raise InvalidStep(f"the answer schema of step {step} is not JSON") from error
    foreign = next((name for name in _references(schema) if not name.startswith("#")), None)
    if foreign is not None:
        raise InvalidStep(
            f"the answer schema of step {step} refers to {foreign[:_PART_CHARS]!r}, "
            "which is not in it"
        )


def check_answer(
    role: str, step: str, schema: Schema | None, answer: Mapping[str, JsonValue]
) -> None:
    """Refuse an answer of another shape.

    Args:
        role: who answers.
        step: the step's name, which may choose among the tasks of a built-in role.
        schema: what the step declares; None for the role's own.
        answer: as the event has it.

    Raises:
        AnswerRejected: says where it does not fit, but does not repeat it.
        UnknownRole: there is neither a schema nor such a role.
    """
    if schema is None:
        role_spec(role, step).read(to_json(answer))
        return
    try:
        why = _misfit(schema, answer)
    except Exception as broken:
        # Whatever the validator raises: unresolvable references and endless ones, arithmetic with
        # huge numbers, and anything at all where a reference leads to what is no schema.
        raise AnswerRejected(f"the schema of step {step} cannot be applied") from broken
    if why is not None:
        raise AnswerRejected(f"the answer of step {step} does not fit its schema: {why}")


def misfit(schema: Schema, value: Mapping[str, JsonValue]) -> str | None:
    """Where the value does not fit the schema, without repeating it; None where it does."""
    try:
        return _misfit(schema, value)
    except Exception:  # noqa: BLE001 - as in `check_answer`
        return "its schema cannot be applied"


def says_accepted(schema: Schema) -> bool:
    """Whether every answer of this schema has a boolean ``accepted``."""
    properties, required = schema.get("properties"), schema.get("required")
    accepted = properties.get("accepted") if isinstance(properties, dict) else None
    return (
        isinstance(accepted, dict)
        and accepted.get("type") == "boolean"
        and isinstance(required, list)
        and "accepted" in required
    )


def _misfit(schema: Schema, value: Mapping[str, JsonValue]) -> str | None:
    if not _is_as_deep(value, MAX_LEVELS):
        return f"it is nested over {MAX_LEVELS} levels"
    try:
        from_json(to_json(value), allow_inf_nan=False)
    except ValueError:
        return "it has a number that is none, or too large to be told"
    error: ValidationError | None = next(_validator(to_json(schema)).iter_errors(value), None)
    return None if error is None else _reason(error)


def _is_as_deep(value: JsonValue | Mapping[str, JsonValue], most: int) -> bool:
    if not isinstance(value, Mapping | list):
        return True
    parts = value.values() if isinstance(value, Mapping) else value
    return most > 0 and all(_is_as_deep(part, most - 1) for part in parts)


@lru_cache(maxsize=_CACHED)
def _validator(schema: bytes) -> Any:
    """A validator that knows no schema but this one, and so reads nothing from anywhere."""
    return Draft202012Validator(from_json(schema), registry=Registry())


def _references(part: object) -> Iterator[str]:
    if isinstance(part, Mapping):
        for name, value in part.items():
            if name in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield value
            yield from _references(value)
    elif isinstance(part, list | tuple):
        for value in part:
            yield from _references(value)


def _reason(error: ValidationError) -> str:
    where = ".".join(map(str, error.absolute_path))[:_PART_CHARS]
    rule = f"{error.validator} {to_json(error.validator_value).decode()}"[:_PART_CHARS]
    return f"{where}: {rule}" if where else rule
