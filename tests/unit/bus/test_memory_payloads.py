"""What the log says of the memory, as it reads back."""

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import to_json

from actors.memory_question import Question
from bus.memory_payloads import (
    TAKEN,
    ItemReference,
    MemoryDeleted,
    MemoryRefused,
    MemoryWritten,
    NewItem,
)

NAMED: tuple[tuple[type[BaseModel], dict[str, object]], ...] = (
    (ItemReference, {"version": 1}),
    (MemoryWritten, {"kind": "semantic", "content": "text"}),
    (MemoryDeleted, {}),
    (MemoryRefused, {"refused": "0" * 32, "code": "conflict"}),
)


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize(("model", "more"), NAMED)
def test_an_item_of_a_name_that_no_new_one_gets_is_read(
    model: type[BaseModel], more: dict[str, object], name: str
) -> None:
    said = to_json({"namespace": "shared/notes", "item": name, **more})
    assert model.model_validate_json(said).model_dump()["item"] == name


@pytest.mark.parametrize("name", TAKEN)
def test_it_can_be_asked_for(name: str) -> None:
    asked = {"namespaces": ["shared/notes"], "run": "r1", "item": name, "asked_at": 0}
    assert Question.model_validate_json(to_json(asked)).item == name


@pytest.mark.parametrize("name", [*TAKEN, "", "a/b", "x" * 129])
def test_a_new_item_is_not_called_so(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(NewItem).validate_python(name)
