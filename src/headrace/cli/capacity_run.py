"""Carrying out ``headrace capacity``: the search, what is kept of it, and its answer."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.cli.errors import CommandError

if TYPE_CHECKING:
    from headrace.bench.capacity.evidence import Told
    from headrace.bench.capacity.live import Found
    from headrace.bench.capacity.search import Search
    from headrace.bench.client.spec import ClientSpec
    from headrace.bench.slo import Slo
    from headrace.bench.target import Target
    from headrace.cli.capacity_range import Users

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
        self._target, self._slo, self._cv, self._state = target, slo, cv, state
        self._search = self._begin(budget_s, width, most_rate, seed)

    def _begin(self, budget_s: float, width: float, most_rate: float, seed: int) -> Search:
        """With what was kept. Raises CommandError where that is of another search."""
        import msgspec  # noqa: PLC0415

        from headrace.bench.capacity.evidence import Told  # noqa: PLC0415
        from headrace.bench.capacity.search import Search  # noqa: PLC0415

        try:
            search = Search(self._slo.criteria, seed=seed, budget_s=budget_s, width=width, most_rate=most_rate)
            if self._state is not None and self._state.exists():
                search.retell(msgspec.json.decode(self._state.read_bytes(), type=list[Told]))
        except (ValueError, msgspec.MsgspecError) as error:
            where = f"{self._state}: " if self._state is not None else ""
            raise CommandError(f"{where}{error}") from None
        except OSError as error:
            raise CommandError(f"cannot read {self._state}: {error.strerror}") from None
        return search

    def run(self, spec: ClientSpec, *, quiet: bool) -> Found:
        """Raises BenchError where no load can be put on the server."""
        import uvloop  # noqa: PLC0415

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._run(spec, quiet=quiet))

    async def _run(self, spec: ClientSpec, *, quiet: bool) -> Found:
        from headrace.bench.capacity.live import LiveSearch  # noqa: PLC0415
        from headrace.bench.preparation import prepare  # noqa: PLC0415
        from headrace.cli.capacity_view import live_progress  # noqa: PLC0415
        from headrace.cli.stopping import stop_on_signal, unless_stopped  # noqa: PLC0415

        with live_progress(quiet=quiet or not sys.stderr.isatty()) as live, stop_on_signal() as stop:
            spec = await unless_stopped(stop, prepare(spec, self._target.tls, live.say))
            search = LiveSearch(
                self._search,
                spec,
                self._slo,
                stop,
                cv=self._cv,
                weights=self._target.terms.weights,
                on_look=live.show,
                on_told=self._keep,
            )
            return await search.run()

    def _keep(self, told: Sequence[Told]) -> None:
        import msgspec  # noqa: PLC0415

        if self._state is not None:
            _write(self._state, msgspec.json.encode(told))

    def conclude(self, found: Found, users: Users, out: Path | None, *, json_output: bool) -> None:
        """Print and write. Raises CommandError where there is no answer."""
        import msgspec  # noqa: PLC0415

        from headrace.cli.capacity_range import print_range, recommended  # noqa: PLC0415
        from headrace.cli.capacity_view import print_answer  # noqa: PLC0415
        from headrace.cli.output import print_json  # noqa: PLC0415

        answer = found.answer
        if answer is None:
            kept = f"; what was found is in {self._state}" if self._state is not None else ""
            raise CommandError(f"interrupted after {len(found.told)} probes{kept}", status=130)
        range_ = recommended(answer, self._slo, self._target, users)
        told: dict[str, Any] = {
            "target": f"{self._target.model} at {self._target.url}",
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
            print_range(range_, self._target.kind)
        if answer.verdict == "UNRESOLVED":
            raise CommandError(f"UNRESOLVED: {answer.reason}", status=UNRESOLVED_STATUS)
        if answer.verdict == "FAIL":
            raise CommandError(f"FAIL: {answer.reason}")


def _write(path: Path, content: bytes) -> None:
    """Raises CommandError."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}") from None
