"""One flat error body that every client library reads, for whatever went wrong."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from headrace.controller.api.body import NOT_DONE
from headrace.controller.refusal import Code, Refusal

STATUS: dict[Code, int] = {
    "INVALID_PARAMETER_VALUE": 400,
    "MALFORMED_REQUEST": 400,
    "FEATURE_DISABLED": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "RESOURCE_ALREADY_EXISTS": 409,
    "RESOURCE_CONFLICT": 409,
}
ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
TYPES = {401: "authentication_error", 403: "permission_error", 500: "server_error"}

log = logging.getLogger(__name__)


class ErrorInfo(BaseModel):
    """Where Databricks' SDK looks for what OpenAI's finds in ``code``."""

    type: str = Field(default=ERROR_INFO, serialization_alias="@type")
    reason: str
    domain: str = "headrace"
    metadata: dict[str, str] = {}


class ErrorBody(BaseModel):
    """``error_code`` is what Databricks' SDK reads, ``type``, ``code`` and ``param`` what OpenAI's does. Gateways
    answer with the same body."""

    error_code: str
    message: str
    type: str
    code: str
    param: str | None
    details: list[ErrorInfo]


MEANINGS: dict[int | str, str] = {
    400: "What was asked for cannot be done; the message says what can",
    401: "No key, or one that does not hold",
    403: "A key that may not do this",
    404: "No such thing",
    409: "It is there already, or is being changed",
    "4XX": "Whatever else is wrong with a call",
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    code: {"model": ErrorBody, "description": meaning} for code, meaning in MEANINGS.items()
}
"""Of every path. With ``4XX`` the framework does not claim answers of its own, which it never gives."""


def install(app: FastAPI) -> None:
    """Answer every error of the application in this form."""

    @app.exception_handler(Refusal)
    async def _refused(request: Request, refusal: Refusal) -> JSONResponse:
        return _answer(STATUS[refusal.code], refusal.code, refusal.message, refusal.param, reason=refusal.reason)

    @app.exception_handler(RequestValidationError)
    async def _malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        return _answer(400, *_explain(error))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 404:
            return _answer(404, "ENDPOINT_NOT_FOUND", f"there is no {request.method} {request.url.path}", None)
        if error.status_code == 405:
            answer = _answer(405, "METHOD_NOT_ALLOWED", f"{request.url.path} has no {request.method}", None)
            answer.headers["allow"] = ", ".join(await asyncio.to_thread(_methods, request))
            return answer
        return _answer(error.status_code, "BAD_REQUEST", str(error.detail), None)

    @app.exception_handler(Exception)
    async def _bug(request: Request, error: Exception) -> JSONResponse:
        rid = request.headers.get("x-request-id", "")
        log.error("a call failed", exc_info=error, extra={"fields": {"path": request.url.path, "request_id": rid}})
        return _answer(
            500, "INTERNAL_ERROR", f"this is a bug; it is in the controller's log under request id {rid}", None
        )


def _answer(
    status: int, error_code: str, message: str, param: str | None, *, reason: str | None = None
) -> JSONResponse:
    reason = reason or error_code.lower()
    body = ErrorBody(
        error_code=error_code,
        message=_sendable(message),
        type=TYPES.get(status, "invalid_request_error"),
        code=reason,
        param=None if param is None else _sendable(param),
        details=[ErrorInfo(reason=reason)],
    )
    return JSONResponse(body.model_dump(by_alias=True), status_code=status)


def _methods(request: Request) -> list[str]:
    """That a path has. By the document for a path of fixed words, which is no name of an endpoint either; else by all
    routes that take it, of which each knows its own alone."""
    documented = request.app.openapi()["paths"].get(request.url.path)
    if documented is not None:
        return [method.upper() for method in documented]
    return [
        method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in request.app.routes)
    ]


def _sendable(text: str) -> str:
    """Without what UTF-8 cannot carry: names from a body may have halves of characters."""
    return text.encode(errors="replace").decode()


def _explain(error: RequestValidationError) -> tuple[str, str, str | None]:
    """Error code, message and field of one thing that is wrong. Values are not repeated.

    What is not done at all comes first: it explains why something else is missing.
    """
    wrong = error.errors()
    first = next((one for one in wrong if one["type"] == "extra_forbidden"), wrong[0])
    where = [part for part in first["loc"] if part not in ("body", "query", "path")]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).lstrip(".")
    if first["type"] == "json_invalid":
        return "MALFORMED_REQUEST", f"the body is not JSON: {first['ctx']['error']}", None
    if first["type"] == "extra_forbidden":
        message = f"{field} is not supported by Headrace: {NOT_DONE.get(str(where[-1]), 'leave it out')}"
        return "INVALID_PARAMETER_VALUE", message, field
    if first["type"] == "missing":
        return "INVALID_PARAMETER_VALUE", f"{field or 'the body'} is missing", field or None
    if first["type"] in ("model_attributes_type", "dict_type") and not field:
        return "MALFORMED_REQUEST", "the body is no JSON object; send one, with Content-Type: application/json", None
    message = f"{field}: {first['msg']}" if field else str(first["msg"])
    return "INVALID_PARAMETER_VALUE", message, field or None
