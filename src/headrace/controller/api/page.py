"""The page: static files of ``headrace.dashboard``. They hold no data; the page asks for a key and calls the API."""

from __future__ import annotations

from importlib import resources

from fastapi import APIRouter, Response

from headrace.controller.refusal import Refusal

router = APIRouter(include_in_schema=False)

TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "ico": "image/x-icon",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@router.get("/")
async def index() -> Response:
    return _file("index.html")


@router.get("/static/{name}")
async def static(name: str) -> Response:
    return _file(name)


def _file(name: str) -> Response:
    kind = TYPES.get(name.rpartition(".")[2])
    file = resources.files("headrace.dashboard") / "static" / name
    if kind is None or "/" in name or name.startswith(".") or not file.is_file():
        raise Refusal("RESOURCE_DOES_NOT_EXIST", f"there is no file {name[:80]!r}")
    return Response(file.read_bytes(), media_type=kind, headers={"Cache-Control": "no-cache"})
