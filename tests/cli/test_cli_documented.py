"""Every command line in the documentation is one that the program takes: it is parsed, and not run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from headrace.cli.main import COMMANDS, build

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
REFERENCE = ROOT / "docs/reference/commands.md"

BLOCK = re.compile(r"^(?: {4,}|\t)?headrace [a-z-].*$", re.MULTILINE)
INLINE = re.compile(r"`headrace ([a-z][^`]*)`")
MADE = re.compile(r"make serve ARGS=(\"[^\"]*\"|[^\s`]+)")
SHELL = re.compile(r"^(?:\d?>.*|\||\|\||&&?|;)$")


@pytest.fixture(scope="module")
def root() -> Any:
    return typer.main.get_command(build(list(COMMANDS)))


def blocks(text: str) -> Iterator[list[str]]:
    """Words of the command lines that stand by themselves, up to what is the shell's."""
    for found in BLOCK.findall(text.replace("\\\n", " ")):
        words = shlex.split(found, comments=True)[1:]
        end = next((place for place, word in enumerate(words) if SHELL.match(word)), len(words))
        yield words[:end]


def spans(text: str) -> Iterator[list[str]]:
    """Words of command lines in the middle of a sentence, which may leave something out: ``create|update`` is two."""
    for found in INLINE.findall(text.replace("\n", " ")):
        words = [word for word in re.split(r"[\s\[\]]+", found) if word and word != "..."]
        several = next((word for word in words if re.fullmatch(r"[a-z-]+(\|[a-z-]+)+", word)), None)
        for one in several.split("|") if several else [several]:
            yield [one if word == several and one else word for word in words]


def rows(text: str) -> Iterator[list[str]]:
    """The first column of the reference: a command of the same group may leave the name of the group out."""
    for row in re.findall(r"^\| (`.*?`) \| ", text.replace("\\|", " "), re.MULTILINE):
        group = ""
        for span in re.findall(r"`([^`]*)`", row):
            words = [word for word in re.split(r"[\s\[\]]+", span) if word and word != "..."]
            group = words[0] if words[0] in COMMANDS else group
            yield words if words[0] in COMMANDS else [group, *words]


def resolved(root: Any, words: list[str]) -> tuple[Any, list[str]]:
    """The command that is named, and what follows it."""
    command, rest = root, list(words)
    while isinstance(command, TyperGroup) and rest:
        if rest[0] not in command.commands and "run" in command.commands:
            rest.insert(0, "run")  # ``load`` goes without its name
        assert rest[0] in command.commands, f"headrace {' '.join(words)}: there is no command {rest[0]!r}"
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


def check_options(root: Any, words: list[str]) -> None:
    command, rest = resolved(root, words)
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)} | {"--help"}
    for word in rest:
        option = word.partition("=")[0].rstrip(",.")
        if option.startswith("--"):
            assert option in known, f"headrace {' '.join(words)}: there is no option {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_line_of_a_page_is_taken(root: Any, page: Path) -> None:
    text = page.read_text()
    for words in blocks(text):
        given = [word for word in words if word != "..."]
        check_options(root, given)
        command, rest = resolved(root, given)
        try:
            TyperCommand.make_context(command, "headrace", rest)
        except Exception as error:
            pytest.fail(f"headrace {' '.join(words)}: {error}")
    for words in [*spans(text), *(["serve", *one.strip('"').split()] for one in MADE.findall(text))]:
        check_options(root, words)


def test_every_command_of_the_reference_is_there_and_no_other(root: Any) -> None:
    documented = set()
    for words in rows(REFERENCE.read_text()):
        check_options(root, words)
        documented.add(words[0])
    assert documented == set(COMMANDS)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("endpoints show NAME", "there is no command 'show'"),
        ("endpoints get NAME --colour red", "there is no option --colour"),
        ("nonsense", "there is no command 'nonsense'"),
    ],
)
def test_a_line_that_the_program_does_not_take_is_found(root: Any, line: str, said: str) -> None:
    (words,) = spans(f"Say `headrace {line}` to it.")
    with pytest.raises(AssertionError, match=said):
        check_options(root, words)
