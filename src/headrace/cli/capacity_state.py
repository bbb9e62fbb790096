"""The file that a capacity search is kept in, from which another goes on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from headrace.bench.capacity.evidence import Told
from headrace.bench.capacity.protocol import Budget
from headrace.bench.capacity.search import Search
from headrace.bench.workload.spec import Amount, ClosedLoop, LoadSpec
from headrace.cli.errors import CommandError

FORMAT = 1


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    format: int
    target: str
    load: LoadSpec
    cv: float | None
    budgets: list[Budget] = []
    told: list[Told]


class SearchState:
    """Of one search: it is taken up only where target, requests and arrivals are the same."""

    def __init__(self, path: Path, target: str, load: LoadSpec, cv: float | None) -> None:
        """``target``: in words. ``load``: as the command line says it, before a server was asked about it."""
        self._path, self._target, self._load, self._cv = path, target, _constant(load), cv
        self._budgets: list[Budget] = []

    def take_up(self, search: Search) -> None:
        """With what was kept, if anything was; it goes on with the budget it was made with. Raises CommandError where
        what was kept is of another search, or of one with more.
        """
        self._budgets = search.budgets
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise CommandError(f"cannot read {self._path}: {error.strerror}") from None
        try:
            kept = msgspec.json.decode(content, type=_Kept)
            if kept.format != FORMAT:
                raise ValueError(f"it has format {kept.format}; this version reads {FORMAT}")
            if (kept.target, kept.load, kept.cv) != (self._target, self._load, self._cv):
                raise ValueError(
                    f"it is of a search on {kept.target}, with other requests, arrivals or target: name another file"
                )
            told = kept.told
            while told and told[-1][1].invalid:
                told.pop()  # it said nothing of the server, and may be tried again
            search.retell(told, kept.budgets)
        except (ValueError, msgspec.MsgspecError) as error:
            raise CommandError(f"cannot go on from {self._path}: {error}") from None

    def keep(self, told: Sequence[Told]) -> None:
        """Replaces the file as a whole. Raises CommandError."""
        kept = _Kept(
            format=FORMAT,
            target=self._target,
            load=self._load,
            cv=self._cv,
            budgets=self._budgets,
            told=list(told),
        )
        beside = self._path.with_name(self._path.name + ".new")
        try:
            beside.write_bytes(msgspec.json.encode(kept))
            os.replace(beside, self._path)
        except OSError as error:
            raise CommandError(f"cannot write {self._path}: {error.strerror}") from None


def _constant(load: LoadSpec) -> LoadSpec:
    """Without what a search says itself, and what is new in every run."""
    content = msgspec.structs.replace(load.content, salt=0, prose=None)
    return msgspec.structs.replace(
        load, content=content, arrivals=ClosedLoop(users=1), amount=Amount(requests=1), seed=0
    )
