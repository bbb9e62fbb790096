"""Carrying out ``headrace capacity``: the search, what is kept of it, and its answer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.cli.errors import CommandError, UsageError
from headrace.cli.load_outputs import check_writable

if TYPE_CHECKING:
    from headrace.bench.capacity.live import Found
    from headrace.bench.client.spec import ClientSpec
    from headrace.bench.slo import Slo
    from headrace.bench.target import Target
    from headrace.cli.capacity_range import Users
    from headrace.cli.capacity_state import SearchState

UNRESOLVED_STATUS = 4
"""Exit status where the budget ended without an answer."""


class CapacityRun:
    """One search."""

    def __init__(
        self,
        target: Target,
        slo: Slo,
        budget_s: float,
        width: float,
        cv: float | None,
        most_rate: float,
        seed: int,
        state: Path | None,
    ) -> None:
        """Raises CommandError for bounds that are none."""
        from headrace.bench.capacity.search import Search  # noqa: PLC0415

        self._target, self._slo, self._budget_s, self._cv, self._state = target, slo, budget_s, cv, state
        try:
            self._search = Search(slo.criteria, seed=seed, budget_s=budget_s, width=width, most_rate=most_rate)
        except ValueError as error:
            raise UsageError(str(error)) from None

    def run(self, spec: ClientSpec, *, quiet: bool) -> Found:
        """From where the kept state ends, if there is one. Raises CommandError where that is of another search, and
        BenchError where no load can be put on the server."""
        import uvloop  # noqa: PLC0415

        from headrace.cli.capacity_state import SearchState  # noqa: PLC0415

        state = None
        if self._state is not None:
            check_writable(self._state)
            state = SearchState(self._state, self._where, spec.load, self._cv)
            state.take_up(self._search)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._run(spec, state, quiet=quiet))

    @property
    def _where(self) -> str:
        return f"{self._target.model} at {self._target.url}"

    async def _run(self, spec: ClientSpec, state: SearchState | None, *, quiet: bool) -> Found:
        from headrace.bench.capacity.live import LiveSearch  # noqa: PLC0415
        from headrace.bench.preparation import prepare  # noqa: PLC0415
        from headrace.cli.capacity_view import live_progress  # noqa: PLC0415
        from headrace.cli.stopping import stop_on_signal, unless_stopped  # noqa: PLC0415

        with live_progress(self._budget_s, quiet=quiet) as live, stop_on_signal() as stop:
            spec = await unless_stopped(stop, prepare(spec, self._target.tls, live.say))
            search = LiveSearch(
                self._search,
                spec,
                self._slo,
                stop,
                cv=self._cv,
                weights=self._target.terms.weights,
                on_look=live.show,
                on_told=None if state is None else state.keep,
            )
            return await search.run()

    def conclude(self, found: Found, users: Users, out: Path | None, *, json_output: bool) -> None:
        """Print and write. Raises CommandError where there is no answer."""
        import msgspec  # noqa: PLC0415

        from headrace.cli.capacity_range import print_range, recommended  # noqa: PLC0415
        from headrace.cli.capacity_view import print_answer  # noqa: PLC0415
        from headrace.cli.output import print_json  # noqa: PLC0415

        answer = found.answer
        if answer is None:
            raise CommandError(f"interrupted after {len(found.told)} probes{self._so_far(found)}", status=130)
        range_ = recommended(answer, self._slo, self._target, users)
        told: dict[str, Any] = {
            "target": self._where,
            "simulated": self._target.terms.simulated,
            "slo": msgspec.to_builtins(self._slo),
            "answer": msgspec.to_builtins(answer),
            "range": {"reason": range_} if isinstance(range_, str) else msgspec.to_builtins(range_),
            "findings": msgspec.to_builtins(found.findings),
        }
        if out is not None:
            _write(out, msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n")
        if json_output:
            print_json(told)
        else:
            print_answer(answer, found.findings, self._slo, self._target)
            print_range(range_, self._target, confirmed=answer.confirmed is not None)
        if answer.verdict == "UNRESOLVED":
            raise CommandError(f"UNRESOLVED: {answer.reason}", status=UNRESOLVED_STATUS)
        if answer.verdict == "FAIL":
            raise CommandError(f"FAIL: {answer.reason}")

    def _so_far(self, found: Found) -> str:
        interval = self._search.interval
        known = "" if interval is None else f"; so far the capacity lies in {interval[0]:.3g} to {interval[1]:.3g} /s"
        kept = f"; {self._state} keeps what was found" if self._state is not None and found.told else ""
        return known + kept


def _write(path: Path, content: bytes) -> None:
    """Raises CommandError."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}") from None
