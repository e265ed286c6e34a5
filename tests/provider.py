"""A provider that speaks OpenAI's API, on a real socket of this machine."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import uvicorn
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from serve.fallback import FallbackConfig

KEY = "sk-test-5f0c1e8a97d34b62b0a1"  # nobody's
MODEL = "outside-1"
Mood = Literal["well", "refuses", "busy", "fails", "babbles", "hangs", "breaks off", "endless"]


@dataclass
class OutsideProvider:
    """What it does, and what it was asked.

    Attributes:
        mood: how it answers.
        requests: bodies, in their order.
        keys: what stood in the header of each.
    """

    url: str = ""
    mood: Mood = "well"
    text: str = "An answer from outside."
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def config(self, folder: Path, key: str = KEY) -> FallbackConfig:
        """How it is reached, with its key in a file."""
        file = folder / "fallback_api_key"
        file.touch(mode=0o600)
        file.write_text(key)
        return FallbackConfig(name="outside", url=self.url, model=MODEL, key_file=file)

    async def answer(self, request: Request) -> Response:
        self.requests.append(await request.json())
        self.keys.append(request.headers.get("authorization", ""))
        match self.mood:
            case "refuses":
                told = f"Incorrect API key provided: {self.keys[-1]}"
                return JSONResponse({"error": {"message": told}}, status_code=401)
            case "busy":
                return JSONResponse({"error": {"message": "slow down"}}, status_code=429)
            case "fails":
                return PlainTextResponse("oh no", status_code=500)
            case "babbles":
                return PlainTextResponse("<html>welcome to the hotel's network</html>")
            case "hangs":
                await asyncio.Event().wait()
        if self.requests[-1].get("stream"):
            return StreamingResponse(self.chunks(), media_type="text/event-stream")
        message = {"role": "assistant", "content": self.text}
        return JSONResponse(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "model": f"{MODEL}-2026-01-01",
                "system_fingerprint": "fp_44709d6fcb",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9},
            }
        )

    async def chunks(self) -> AsyncGenerator[str, None]:
        yield ": welcome\n\n"
        for word in self.text.split():
            chunk = {"model": MODEL, "choices": [{"index": 0, "delta": {"content": f"{word} "}}]}
            yield f"data: {json.dumps(chunk)}\r\n\r\n"
            if self.mood == "breaks off":
                return
            for _ in range(200 if self.mood == "endless" else 0):
                yield "x" * 65_536
        yield "data: [DONE]\n\n"


@asynccontextmanager
async def outside_provider() -> AsyncIterator[OutsideProvider]:
    """A provider for the length of the block."""
    provider, app = OutsideProvider(), FastAPI()
    for path in ("/v1/chat/completions", "/v1/completions"):
        app.add_api_route(path, provider.answer, methods=["POST"])
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(10):
            while not server.started:  # noqa: ASYNC110 - it has no event to wait for
                await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        provider.url = f"http://127.0.0.1:{port}/v1"
        yield provider
    finally:
        server.should_exit = True
        await serving
