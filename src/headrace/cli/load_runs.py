"""The runs of ``headrace load``, one level after the other: measured, shown, written."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.cli.errors import CommandError
from headrace.cli.load_outputs import Outputs, suffixes_of

if TYPE_CHECKING:
    from headrace.bench.client.spec import ClientSpec
    from headrace.bench.session import Measured
    from headrace.bench.slo import Slo
    from headrace.bench.target import Target
    from headrace.cli.load_unfinished import Unfinished

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
        resume: bool = False,
    ) -> None:
        """``explain``: print every gate and definition, too. ``resume``: go on with what was interrupted."""
        self._target, self._slo, self._calibration_s, self._notes = target, slo, calibration_s, notes
        self._outputs, self._json, self._explain, self._resume = outputs, json_output, explain, resume
        self._unfinished: Unfinished | None = None
        """None where no file is written that could be gone on with."""

    def run(self, specs: Sequence[ClientSpec]) -> None:
        """Raises CommandError where nothing was answered, the run was interrupted, it is not valid, or a file could not
        be written."""
        try:
            self._run(specs)
        finally:
            if self._unfinished is not None:
                self._unfinished.close()

    def _run(self, specs: Sequence[ClientSpec]) -> None:
        from headrace.cli.load_view import print_note  # noqa: PLC0415

        self._outputs.check(len(specs))
        unfinished = self._unfinished = self._room(specs)
        if not self._json:
            for note in self._notes:
                print_note(note)
        unwritten: list[str] = []
        try:
            measured = self._levels(specs, unwritten)
        finally:
            if unfinished is not None:
                unfinished.tidy()
        if not measured:
            raise CommandError("interrupted before the first request had ended", status=130)
        interrupted = measured[-1].interrupted
        self._show_all(measured, several=len(specs) > 1)
        unwritten.extend(self._outputs.write_report(measured))
        if unfinished is not None and not (interrupted or unwritten):
            unfinished.remove()
        self._conclude(measured, unwritten, interrupted=interrupted)

    def _room(self, specs: Sequence[ClientSpec]) -> Unfinished | None:
        """For the run until it has ended: what was kept of it, or nothing yet."""
        from headrace.cli.load_unfinished import Unfinished  # noqa: PLC0415

        if self._outputs.out is None or specs[0].load.sessions is not None:
            return None
        unfinished = Unfinished(self._outputs.out, specs, self._target)
        if self._resume:
            unfinished.take_up()
        else:
            unfinished.check_free()
            if unfinished.kept is not None:
                lost = f"what {unfinished.kept} keeps of an interrupted run is replaced; --resume would go on with it"
                self._notes = [*self._notes, lost]
        return unfinished

    def _levels(self, specs: Sequence[ClientSpec], unwritten: list[str]) -> list[Measured]:
        """Up to that which was interrupted. ``unwritten`` is told which files could not be written."""
        import uvloop  # noqa: PLC0415

        measured: list[Measured] = []
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            for level, (spec, suffix) in enumerate(zip(specs, suffixes_of(len(specs)), strict=True)):
                if self._unfinished is not None and self._unfinished.done(level):
                    measured.append(self._outputs.read_level(suffix))
                    continue
                one = runner.run(self._measure(spec, level))
                if one.interrupted and not len(one.records.requests):
                    break
                measured.append(one)
                if not self._json:
                    self._show(one)
                missing = list(self._outputs.write_level(one, suffix))
                unwritten.extend(missing)
                if one.interrupted:
                    break
                if self._unfinished is not None and not missing:
                    self._unfinished.set_done(level)
        return measured

    async def _measure(self, spec: ClientSpec, level: int) -> Measured:
        from headrace.bench.preparation import prepare, with_prose  # noqa: PLC0415
        from headrace.bench.segments import Earlier  # noqa: PLC0415
        from headrace.bench.session import Session  # noqa: PLC0415
        from headrace.cli.load_live import going_on, live_progress  # noqa: PLC0415
        from headrace.cli.load_view import print_note  # noqa: PLC0415
        from headrace.cli.stopping import stop_on_signal, unless_stopped  # noqa: PLC0415

        earlier = Earlier() if self._unfinished is None else self._unfinished.earlier(level)
        if earlier.requests and not self._json:
            print_note(going_on(earlier))
        with live_progress(spec.load, earlier, quiet=self._json) as live, stop_on_signal() as stop:
            if earlier.parts:
                spec = with_prose(spec, earlier.prose)
            else:
                spec = await unless_stopped(stop, prepare(spec, self._target.tls, live.say))
            session = Session(
                spec,
                self._slo,
                self._target.terms.weights,
                f"{self._target.model} at {self._target.url}",
                self._target.terms.simulated,
                self._calibration_s,
                self._target.terms.about,
                earlier,
            )
            with self._directory(level) as directory:
                return await session.measure(directory, stop, live.show)

    @contextmanager
    def _directory(self, level: int) -> Iterator[Path]:
        """For the files of the run while it lasts."""
        if self._unfinished is not None:
            yield self._unfinished.segment(level)
            return
        with tempfile.TemporaryDirectory(prefix="headrace-load-") as directory:
            yield Path(directory)

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
            how = "" if self._unfinished is None else "; the same words and --resume go on from there"
            raise CommandError(f"interrupted; the figures are of what was answered until then{how}", status=130)
        if not any(one.summary.whole.counts.ok for one in measured):
            found = [finding.words for finding in measured[-1].summary.findings if finding.name != "no_answer"]
            raise CommandError(f"no request was answered: {'; '.join(found[:3]) or 'nothing came in time'}")
        invalid = [one.summary for one in measured if not one.summary.valid]
        if invalid:
            raise CommandError(f"INVALID: {'; '.join(invalid[0].reasons)}", status=INVALID_STATUS)
