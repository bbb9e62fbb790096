"""What keys and service principals have in common: what they may do, and their share of what is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from headrace.cli.errors import UsageError

TIERS = ("priority", "default", "flex")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerOptions:
    admin: Annotated[bool, typer.Option("--admin", help="May also change endpoints and keys.")] = False
    tiers: Annotated[
        str | None, typer.Option("--tiers", help="Service tiers it may use, such as priority,default,flex.")
    ] = None
    weight: Annotated[
        float | None,
        typer.Option("--weight", help="Its share of a tier beside others that wait there: 0.1 to 100. Default 1."),
    ] = None

    def told(self) -> dict[str, Any]:
        """As the REST API takes it. Raises UsageError."""
        said: dict[str, Any] = {"role": "admin" if self.admin else "query"}
        if self.tiers is not None:
            said["tiers"] = _chosen(self.tiers)
        if self.weight is not None:
            said["weight"] = self.weight
        return said


def caller_cells(caller: dict[str, Any]) -> tuple[str, str]:
    """Tiers and weight as a table has them."""
    return ", ".join(caller["tiers"]), f"{caller['weight']:g}"


def _chosen(text: str) -> list[str]:
    chosen = [tier.strip() for tier in text.split(",")]
    if not set(chosen) <= set(TIERS):
        raise UsageError(f"--tiers is {text!r}; expected some of {', '.join(TIERS)}, with commas between")
    return chosen
