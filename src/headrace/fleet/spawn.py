"""Replicas of one program's own, without a supervisor: how a profile runs the engine that it measures.

They are children of the calling process and end with it.
"""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import Sequence
from pathlib import Path

import msgspec

from headrace.engines.base import EngineError, ModelSettings, ReplicaReport, ReplicaSpec
from headrace.engines.catalogue import engine_for
from headrace.fleet.child import RunningChild
from headrace.fleet.log_file import LogFile
from headrace.fleet.protocol import Child, ChildSpec

GRACE_S = 5.0


class OwnReplica:
    """A ready replica. ``stop`` it, or end the process."""

    def __init__(self, child: RunningChild, report: ReplicaReport, secret: str, log: LogFile) -> None:
        assert report.url is not None
        self.url = report.url
        self.load_s = report.load_s
        self.engine_version = report.engine_version
        self.secret = secret
        self.pid = child.state.pid
        self.cpus = child.state.cpus
        self.exited = child.exited
        """Set when the process has ended, whoever ended it."""
        self._child = child
        self._log = log

    async def stop(self, grace_s: float = GRACE_S) -> None:
        await self._child.stop(grace_s)
        self._log.close()


async def start_replica(
    model: ModelSettings,
    *,
    cpus: Sequence[int] = (),
    log: Path,
    gpus: Sequence[int] = (),
    cache_prompts: bool = False,
    timeout_s: float | None = None,
) -> OwnReplica:
    """Start a replica and wait until it is ready. Call it in the main thread's event loop.

    ``timeout_s`` None: as long as a start of its engine may take. Raises EngineError where the model cannot run, does
    not load, or is not ready in time; nothing is left running.
    """
    engine = engine_for(model.engine)
    engine.check(model)
    timeout_s = engine.ready_within_s if timeout_s is None else timeout_s
    replica, secret = f"own-{uuid.uuid4().hex[:12]}", secrets.token_hex(32)
    spec = ReplicaSpec(
        replica=replica,
        model=model,
        secret=secret,
        cpus=tuple(cpus),
        gpus=tuple(gpus),
        cache_prompts=cache_prompts,
    )
    changed = asyncio.Event()
    file = LogFile(log)

    def announce(child: Child) -> None:
        changed.set()

    try:
        child = RunningChild(
            ChildSpec(
                token=replica,
                kind="replica",
                name=replica,
                argv=engine.argv(model),
                stdin=msgspec.json.encode(spec).decode(),
                cpus=tuple(cpus),
            ),
            file,
            announce,
        )
    except (OSError, ValueError) as error:
        raise EngineError(f"cannot start a replica of {model.name}: {error}") from None
    try:
        async with asyncio.timeout(timeout_s):
            while (report := _settled(child)) is None:
                changed.clear()
                await changed.wait()
    except BaseException as error:
        await child.stop(0)
        file.close()
        if isinstance(error, TimeoutError):
            raise EngineError(f"a replica of {model.name} was not ready in {timeout_s:g} s; see {log}") from None
        raise
    if report.state != "ready" or report.url is None:
        await child.stop(GRACE_S)
        file.close()
        raise EngineError(report.error or f"a replica of {model.name} said {report.state!r}; see {log}")
    return OwnReplica(child, report, secret, file)


def _settled(child: RunningChild) -> ReplicaReport | None:
    """The report that ends the wait; None while it loads."""
    state = child.state
    try:
        report = None if state.report is None else msgspec.convert(state.report, ReplicaReport)
    except msgspec.ValidationError:
        report = None
    if report is not None and report.state in ("ready", "failed"):
        return report
    if state.exited_ms is not None:
        last = state.tail.splitlines()[-1] if state.tail else "it said nothing"
        return ReplicaReport(state="failed", error=f"the replica ended with code {state.exit_code}: {last}")
    return None
