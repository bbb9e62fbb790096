"""Options that commands share: the fields of a dataclass stand on the command line as if each were written there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer
from typer.main import get_command

from headrace.cli.main import COMMANDS, build
from headrace.cli.option_group import spread


@dataclass(frozen=True, kw_only=True)
class Size:
    low: Annotated[int | None, typer.Option("--low", help="The least.")] = None
    high: Annotated[int, typer.Option("--high")] = 7


def command(told: list[Any]) -> Any:
    app = typer.Typer()

    @app.command()
    @spread
    def make(name: str, *, size: Size, quiet: Annotated[bool, typer.Option("--quiet")] = False) -> None:
        """Makes one."""
        told.append((name, size, quiet))

    return get_command(app)


@pytest.mark.parametrize(
    ("words", "size", "quiet"),
    [
        ([], Size(), False),
        (["--low", "3", "--quiet"], Size(low=3), True),
        (["--high", "9", "--low", "1"], Size(low=1, high=9), False),
    ],
)
def test_a_command_gets_its_group_with_what_was_said_and_what_was_not(
    words: list[str], size: Size, quiet: bool
) -> None:
    told: list[Any] = []
    command(told)(["x", *words], standalone_mode=False)
    assert told == [("x", size, quiet)]


def test_help_has_the_options_in_the_place_of_the_group() -> None:
    made = command([])
    assert [option.name for option in made.params][:4] == ["name", "low", "high", "quiet"]
    assert made.help == "Makes one."


def test_create_and_update_take_the_same_options() -> None:
    root: Any = get_command(build(list(COMMANDS)))
    endpoints = root.commands["endpoints"].commands
    options = [[option.opts for option in endpoints[name].params] for name in ("create", "update")]
    assert options[0] == options[1]
