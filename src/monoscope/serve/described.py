"""The OpenAPI page, with what every operation has in common: refusals of one sentence, and the token."""

import copy
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from monoscope.serve.errors import OPENAI_PATHS

_TEXT = {"type": "string"}
_MAYBE = {"anyOf": [{"type": "string"}, {"type": "null"}]}
_SHAPES = {
    "Refusal": {
        "type": "object",
        "description": "One sentence: what was wrong, and what to do.",
        "properties": {"error": _TEXT},
        "required": ["error"],
        "additionalProperties": False,
    },
    "OpenAIRefusal": {
        "type": "object",
        "description": "The same as clients of OpenAI's interface read it.",
        "properties": {
            "error": {
                "type": "object",
                "properties": {"message": _TEXT, "type": _TEXT, "param": _MAYBE, "code": _MAYBE},
                "required": ["message", "type", "param", "code"],
            }
        },
        "required": ["error"],
        "additionalProperties": False,
    },
}
_UNUSED = ("HTTPValidationError", "ValidationError")


def describe(app: FastAPI, *, locked: bool) -> None:
    """Let an application's OpenAPI page tell of refusals, and of the token where there is one."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        page = copy.deepcopy(plain())
        components = page.setdefault("components", {})
        schemas = components.setdefault("schemas", {})
        for name in _UNUSED:
            schemas.pop(name, None)
        schemas.update(_SHAPES)
        for path, operation in _operations(page):
            shape = "OpenAIRefusal" if path.startswith(OPENAI_PATHS) else "Refusal"
            content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{shape}"}}}
            operation["responses"].pop("422", None)
            operation["responses"].setdefault("default", {"description": "A refusal.", "content": content})
        if locked:
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            page["security"] = [{"token": []}]
        return page

    # FastAPI's documented way to extend the page.
    app.openapi = described


def _operations(page: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in page["paths"].items():
        for operation in methods.values():
            yield path, operation
