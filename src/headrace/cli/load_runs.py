"""The runs of ``headrace load``, one level after the other: measured, shown, written."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.cli.errors import CommandError
from headrace.cli.load_compare import records_path

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
        *,
        json_output: bool,
        out: Path | None,
        csv: Path | None,
        html: Path | None,
    ) -> None:
        self._target, self._slo, self._calibration_s, self._notes = target, slo, calibration_s, notes
        self._json, self._out, self._csv, self._html = json_output, out, csv, html

    def run(self, specs: Sequence[ClientSpec]) -> None:
        """Raises CommandError where nothing was answered, the run was interrupted, or it is not valid."""
        import uvloop  # noqa: PLC0415

        from headrace.cli.load_view import print_note  # noqa: PLC0415

        if not self._json:
            for note in self._notes:
                print_note(note)
        measured: list[Measured] = []
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            for number, spec in enumerate(specs):
                one = runner.run(self._measure(spec))
                measured.append(one)
                self._show(one, f"-{number + 1}" if len(specs) > 1 else "")
                if one.interrupted:
                    break
        self._report(measured)
        self._conclude(measured)

    async def _measure(self, spec: ClientSpec) -> Measured:
        from headrace.bench.preparation import prepare  # noqa: PLC0415
        from headrace.bench.session import Session  # noqa: PLC0415
        from headrace.cli.load_view import live_progress  # noqa: PLC0415
        from headrace.cli.stopping import stop_on_signal  # noqa: PLC0415

        with live_progress(spec.load, quiet=self._json) as live, stop_on_signal() as stop:
            spec = await prepare(spec, self._target.tls, live.say)
            session = Session(
                spec,
                self._slo,
                self._target.terms.weights,
                f"{self._target.model} at {self._target.url}",
                self._target.terms.simulated,
                self._calibration_s,
            )
            return await self._session(session, stop, live.show)

    async def _session(self, session: Session, stop: asyncio.Event, show: Any) -> Measured:
        with tempfile.TemporaryDirectory(prefix="headrace-load-") as directory:
            return await session.measure(Path(directory), stop, show)

    def _show(self, measured: Measured, suffix: str) -> None:
        from headrace.bench.results import records_file  # noqa: PLC0415
        from headrace.bench.results.write import write_csv, write_json  # noqa: PLC0415
        from headrace.cli.load_view import print_json_summary, print_summary  # noqa: PLC0415

        if self._json:
            print_json_summary(measured.summary)
        else:
            print_summary(measured.summary)
        for path, write in (
            (self._out, lambda path: write_json(path, measured.summary)),
            (self._out and records_path(self._out), lambda path: records_file.save(path, measured.records)),
            (self._csv, lambda path: write_csv(path, measured.records)),
        ):
            if path is not None:
                _write(path.with_stem(path.stem + suffix), write)

    def _report(self, measured: list[Measured]) -> None:
        if self._html is not None:
            from headrace.bench.results.report import write_html  # noqa: PLC0415

            levels = [one.summary for one in measured] if len(measured) > 1 else []
            shown = measured[-1]
            _write(self._html, lambda path: write_html(path, shown.summary, shown.records, levels=levels))

    def _conclude(self, measured: list[Measured]) -> None:
        last = measured[-1]
        if not any(one.summary.whole.counts.ok for one in measured):
            said = "; ".join(finding.words for finding in last.summary.findings[:3]) or "nothing was answered in time"
            raise CommandError(f"no request was answered: {said}")
        if last.interrupted:
            raise CommandError("interrupted; the figures are of what was answered until then", status=130)
        invalid = [one.summary for one in measured if not one.summary.valid]
        if invalid:
            raise CommandError(f"INVALID: {'; '.join(invalid[0].reasons)}", status=INVALID_STATUS)


def _write(path: Path, write: Callable[[Path], None]) -> None:
    """Raises CommandError where the file cannot be written."""
    try:
        write(path)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}") from None
