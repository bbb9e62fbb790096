"""Entry point: finds the command, imports its module alone, and turns errors into one line and an exit status."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from headrace import __version__
from headrace.cli.errors import CommandError, known_errors

COMMANDS = {
    "serve": "headrace.cli.serve:serve",
    "status": "headrace.cli.status:status",
    "gateway": "headrace.cli.gateway:app",
    "models": "headrace.cli.models:app",
    "profile": "headrace.cli.profile:profile",
    "endpoints": "headrace.cli.endpoints:app",
    "keys": "headrace.cli.keys:app",
    "service-principals": "headrace.cli.service_principals:app",
    "usage": "headrace.cli.usage:usage",
    "bill": "headrace.cli.bill:bill",
    "load": "headrace.cli.load:app",
    "capacity": "headrace.cli.capacity:capacity",
    "events": "headrace.cli.events:events",
    "decisions": "headrace.cli.decisions:app",
}
"""Where each command lives: a function, or a ``typer.Typer`` with commands of its own."""


class _Commands(TyperGroup):
    """Tells what each command does in a whole sentence, over two lines where it takes them."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(1000)) for name, one in commands if one is not None])


def build(names: Sequence[str]) -> typer.Typer:
    """The command line with these commands on it."""
    app = typer.Typer(cls=_Commands, add_completion=False, no_args_is_help=True, rich_markup_mode=None)
    app.callback()(headrace)
    for name in names:
        module, attribute = COMMANDS[name].split(":")
        command: Any = getattr(importlib.import_module(module), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            function: Callable[..., Any] = command
            app.command(name)(function)
    return app


def print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"headrace {__version__}")
        raise typer.Exit


def headrace(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Serve language models with provisioned throughput: a range of tokens per second."""


def main(words: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status."""
    words = list(sys.argv[1:] if words is None else words)
    first = next((word for word in words if not word.startswith("-")), None)
    app = build([first] if first in COMMANDS else list(COMMANDS))
    try:
        typer.main.get_command(app)(words, prog_name="headrace")
    except CommandError as error:
        print(f"headrace: {error}", file=sys.stderr)
        sys.exit(error.status)
    except known_errors() as error:
        print(f"headrace: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of a pipe such as `| head` has left; nobody is there to be told.
        sys.stderr.close()
        sys.exit(141)
    except Exception as error:
        print(f"headrace: this is a bug, please report it: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
