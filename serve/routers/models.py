"""Which models can be asked, by the OpenAI interface."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict

from serve.access import ModelReader, Parts
from serve.ports import GatewayParts
from serve.problems import NotFound

router = APIRouter(prefix="/v1/models", tags=["model"])
Name = Annotated[str, Path(max_length=200, description="As the list has it.")]


class ModelLine(BaseModel):
    """One model; what the engine says of it besides is passed on."""

    model_config = ConfigDict(frozen=True, extra="allow")
    id: str
    object: str = "model"


class ModelList(BaseModel):
    """The models that can be asked, as OpenAI's API lists them."""

    model_config = ConfigDict(frozen=True, extra="allow")
    object: str = "list"
    data: tuple[ModelLine, ...]


@router.get("")
async def models(parts: Parts, _: ModelReader) -> ModelList:
    """List the models that can be asked."""
    return await _listed(parts)


@router.get("/{model}", responses={404: {"description": "There is no such model."}})
async def model(model: Name, parts: Parts, _: ModelReader) -> ModelLine:
    """Show one of them."""
    for line in (await _listed(parts)).data:
        if line.id == model:
            return line
    raise NotFound("There is no model of that name.")


async def _listed(parts: GatewayParts) -> ModelList:
    async with asyncio.timeout(parts.limits.call_timeout_s):
        return ModelList.model_validate(await parts.model.models())
