"""No secret of a request or an answer shows where a model is written down, as in a log line."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

import serve.routers
import swarm

SECRET = "sesame"
NAMES = {"password", "current_password", "new_password", "access_token", "refresh_token"}
KEYS = {"ApiKey", "NewApiKey"}
"""Whose `key` is an API key; elsewhere it is a public one."""


def subclasses(of: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for each in of.__subclasses__():
        yield each
        yield from subclasses(each)


def models() -> dict[str, type[BaseModel]]:
    """Those with a secret, by name."""
    for package in (serve.routers, swarm):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    ours = [
        each for each in subclasses(BaseModel) if each.__module__.startswith(("serve", "swarm"))
    ]
    return {each.__name__: each for each in ours if secrets_of(each)}


def secrets_of(model: type[BaseModel]) -> set[str]:
    named = NAMES | ({"key"} if model.__name__ in KEYS else set())
    return named & model.model_fields.keys()


MODELS = models()


def test_the_models_with_a_secret_are_known() -> None:
    assert MODELS.keys() == {
        *KEYS,
        *("LoginRequest", "RefreshRequest", "LoginAnswer", "PasswordChange", "_Login"),
        *("Registration", "UserRequest", "UserChange"),
    }


@pytest.mark.parametrize("name", MODELS)
def test_a_secret_is_not_shown(name: str) -> None:
    model = MODELS[name]
    given: dict[str, Any] = dict.fromkeys(secrets_of(model), SECRET)
    value = model.model_construct(**given)
    assert SECRET not in repr(value) + str(value) + format(value)
    assert name in repr(value)
