"""Answers that are msgspec structs: encoded as they are, and described in the OpenAPI document beside other models."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import Response

_described: dict[str, Any] = {}


def answers(kind: type[msgspec.Struct]) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` of a path that answers with such a struct."""
    (schema,), components = msgspec.json.schema_components([kind], ref_template="#/components/schemas/{name}")
    _described.update(components)
    return {200: {"description": "Done", "content": {"application/json": {"schema": schema}}}}


def schemas() -> dict[str, Any]:
    """Of all structs that were described, by name."""
    return _described


def told(value: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
