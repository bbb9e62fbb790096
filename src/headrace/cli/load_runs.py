"""The runs of ``headrace load``, one level after the other: measured, shown, written."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.cli.errors import CommandError
from headrace.cli.load_outputs import Outputs, suffixes_of

if TYPE_CHECKING:
    from headrace.bench.client.spec import ClientSpec
    from headrace.bench.session import Measured, Session
    from headrace.bench.slo import Slo
    from headrace.bench.target import Target

INVALID_STATUS = 3
"""Exit status of a run whose figures say nothing about the server."""


class LoadRuns:
    """Measures level by level, shows each, and writes what was asked for."""

    def __init__(
        self,
        target: Target,
        slo: Slo | None,
        calibration_s: float,
        notes: list[str],
        outputs: Outputs,
        *,
        json_output: bool,
        explain: bool = False,
    ) -> None:
        """``explain``: print every gate and definition, too."""
        self._target, self._slo, self._calibration_s, self._notes = target, slo, calibration_s, notes
        self._outputs, self._json, self._explain = outputs, json_output, explain

    def run(self, specs: Sequence[ClientSpec]) -> None:
        """Raises CommandError where nothing was answered, the run was interrupted, it is not valid, or a file could not
        be written."""
        import uvloop  # noqa: PLC0415

        from headrace.cli.load_view import print_note  # noqa: PLC0415

        self._outputs.check(len(specs))
        if not self._json:
            for note in self._notes:
                print_note(note)
        measured: list[Measured] = []
        unwritten: list[str] = []
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            for spec, suffix in zip(specs, suffixes_of(len(specs)), strict=True):
                one = runner.run(self._measure(spec))
                if one.interrupted and not len(one.records.requests):
                    break
                measured.append(one)
                if not self._json:
                    self._show(one)
                unwritten.extend(self._outputs.write_level(one, suffix))
                if one.interrupted:
                    break
        if not measured:
            raise CommandError("interrupted before the first request had ended", status=130)
        self._show_all(measured, several=len(specs) > 1)
        unwritten.extend(self._outputs.write_report(measured))
        self._conclude(measured, unwritten, interrupted=one.interrupted)

    async def _measure(self, spec: ClientSpec) -> Measured:
        from headrace.bench.preparation import prepare  # noqa: PLC0415
        from headrace.bench.session import Session  # noqa: PLC0415
        from headrace.cli.load_view import live_progress  # noqa: PLC0415
        from headrace.cli.stopping import stop_on_signal, unless_stopped  # noqa: PLC0415

        with live_progress(spec.load, quiet=self._json) as live, stop_on_signal() as stop:
            spec = await unless_stopped(stop, prepare(spec, self._target.tls, live.say))
            session = Session(
                spec,
                self._slo,
                self._target.terms.weights,
                f"{self._target.model} at {self._target.url}",
                self._target.terms.simulated,
                self._calibration_s,
                self._target.terms.about,
            )
            return await self._session(session, stop, live.show)

    async def _session(self, session: Session, stop: asyncio.Event, show: Any) -> Measured:
        with tempfile.TemporaryDirectory(prefix="headrace-load-") as directory:
            return await session.measure(Path(directory), stop, show)

    def _show(self, measured: Measured) -> None:
        from headrace.cli.load_view import print_summary  # noqa: PLC0415

        print_summary(measured.summary, explain=self._explain)

    def _show_all(self, measured: list[Measured], *, several: bool) -> None:
        from headrace.cli.load_view import json_summary, print_levels  # noqa: PLC0415
        from headrace.cli.output import print_json  # noqa: PLC0415

        summaries = [one.summary for one in measured]
        if self._json:
            documents = [json_summary(summary) for summary in summaries]
            print_json({"levels": documents} if several else documents[0])
        elif several:
            print_levels(summaries)

    def _conclude(self, measured: list[Measured], unwritten: list[str], *, interrupted: bool) -> None:
        if unwritten:
            raise CommandError("; ".join(unwritten))
        if interrupted:
            raise CommandError("interrupted; the figures are of what was answered until then", status=130)
        if not any(one.summary.whole.counts.ok for one in measured):
            found = [finding.words for finding in measured[-1].summary.findings if finding.name != "no_answer"]
            raise CommandError(f"no request was answered: {'; '.join(found[:3]) or 'nothing came in time'}")
        invalid = [one.summary for one in measured if not one.summary.valid]
        if invalid:
            raise CommandError(f"INVALID: {'; '.join(invalid[0].reasons)}", status=INVALID_STATUS)
