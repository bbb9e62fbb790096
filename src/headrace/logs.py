"""Logs: one JSON object a line on standard error. Never a prompt, never a key."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

import msgspec

ROTATE_BYTES = 10_000_000
KEPT_FILES = 3


class JsonLines(logging.Formatter):
    """``{"at", "level", "process", "logger", "message", ...fields}``, with ``error`` where there was an exception."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self.process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self.process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            line.update(fields)
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def setup(process: str, level: str = "INFO", file: Path | None = None) -> None:
    """Send every record to standard error, or to ``file``, which rotates.

    More fields: ``log.info("...", extra={"fields": {...}})``.
    """
    handler: logging.Handler
    if file is None:
        handler = logging.StreamHandler(sys.stderr)
    else:
        handler = RotatingFileHandler(file, maxBytes=ROTATE_BYTES, backupCount=KEPT_FILES)
    handler.setFormatter(JsonLines(process))
    logging.basicConfig(level=level, handlers=[handler], force=True)
