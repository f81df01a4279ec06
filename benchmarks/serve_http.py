"""The same streams through our HTTP interface: a server in a process of its own, a client that reads every event."""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from serve_scene import Scene
from workers import Worker, WorkerLost

_WARM_TOKENS = 4
_SECONDS = 600.0


class Served:
    """Answers orders as the workers under `peers/` do; a reply that the model ends early has fewer tokens."""

    def __init__(self, scene: Scene, script: str, dtype: str, threads: int) -> None:
        words = [str(scene.run.path), scene.dictionary.name, scene.source, "--dtype", dtype, "--threads", str(threads)]
        self._scene = scene
        self._worker = Worker(f"http-{dtype}", Path(sys.executable), script, words, threads=threads)
        self._url = self._worker.hear()["url"]

    def ask(self, *, streams: int, edits: str, tokens: int) -> dict[str, Any]:
        """One batch of replies, timed whole.

        Raises
            WorkerLost  the server refused or went away; the message is its own.
        """
        asyncio.run(self._replies(streams, edits, _WARM_TOKENS))
        self._worker.ask()
        began = time.perf_counter()
        counts = asyncio.run(self._replies(streams, edits, tokens))
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "counts": counts, **self._worker.ask()}

    def stop(self) -> None:
        """End the server."""
        self._worker.stop()

    async def _replies(self, streams: int, edits: str, tokens: int) -> list[int]:
        bodies = [
            {
                "model": self._scene.source,
                "prompt": prompt,
                "max_tokens": tokens,
                "temperature": 0,
                "stream": True,
                "stream_options": {"include_usage": True},
                "edits": texts,
            }
            for prompt, texts in zip(self._scene.prompts.tolist(), self._scene.edits(edits, streams), strict=False)
        ]
        limits = httpx.Limits(max_connections=streams)
        try:
            async with httpx.AsyncClient(
                base_url=self._url, timeout=_SECONDS, limits=limits, trust_env=False
            ) as client:
                return await asyncio.gather(*(_tokens_of(client, body) for body in bodies))
        except httpx.HTTPError as error:
            raise WorkerLost(f"the server went away: {error}") from error


async def _tokens_of(client: httpx.AsyncClient, body: dict[str, Any]) -> int:
    """How many tokens a streamed reply had."""
    count = 0
    async with client.stream("POST", "/v1/completions", json=body) as answer:
        if answer.status_code != 200:
            raise WorkerLost(f"the server answered {answer.status_code}: {(await answer.aread())[:200].decode()}")
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                count = (json.loads(line[6:]).get("usage") or {}).get("completion_tokens", count)
    return count
