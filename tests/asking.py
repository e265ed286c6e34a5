"""What tests ask models."""

from collections.abc import Mapping

from pydantic import JsonValue

from actors.model import Message, ModelRequest


def asked(
    text: str,
    schema: Mapping[str, JsonValue] | None = None,
    *,
    max_tokens: int = 100,
    deadline_s: float = 30.0,
) -> ModelRequest:
    """One message of a user, at temperature 0."""
    return ModelRequest(
        messages=[Message(role="user", content=text)],
        schema=schema,
        max_tokens=max_tokens,
        temperature=0.0,
        seed=1,
        deadline_s=deadline_s,
    )
