"""The first endpoint of a new server: made from the profile at hand, then measured here and sold anew.

The measurement is a process of its own on replicas of its own. A request that is served meanwhile ends it, since the
machine is for those who use it, and other programs that used the cores spoil it: then it is done again, a few times.
After that the figures of a measurement that only other programs disturbed are taken all the same, as they are of this
machine as it is; otherwise the provisional ones stay until somebody measures by hand. Whoever takes the endpoint's name
out of ``Controller.measuring`` ends it for good.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from headrace.config import FirstEndpoint
from headrace.controller.asked import AskedConfig, AskedEntity
from headrace.controller.controller import Controller
from headrace.controller.endpoint import Endpoint, Options
from headrace.controller.events import Kind
from headrace.controller.refusal import Refusal
from headrace.engines.base import ModelSettings
from headrace.fleet.process import kill_group, spawn
from headrace.profiles.files import path_of

MOST_ATTEMPTS = 3
TIMEOUT_S = 600.0
"""A quick profile takes one minute; on a slow machine some more. Then something is wrong."""
POLL_S = 0.2
RETRY_S = 10.0
"""After an attempt that failed or that other programs disturbed: what was in its way may end."""
QUIET_S = 20.0
"""Without a request, after an attempt that one ended: who has begun to try the server goes on for a while."""
INVALID_STATUS = 3
"""``headrace profile`` ends with it where it wrote a profile whose measurement was not valid."""
GAVE_UP: Final = "measuring_given_up"
SPOILED: Final = "measuring_spoiled"
DISTURBED: Final = "measuring_disturbed"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a profile process ended."""

    code: int
    said: str
    """Last of what it wrote on standard error."""
    others: float | None = None
    """Part of the cores' time that other programs used meanwhile, 0 to 1; None where it did not tell."""
    disturbed: bool = False
    """They used so much that the figures may be wrong."""


class _Told(msgspec.Struct, frozen=True):
    """What is read of the line that a profile process writes on standard output."""

    others: float | None = None
    disturbed: bool = False


Measure = Callable[[str, Path], Coroutine[object, object, Outcome]]
"""(model as a command names it, data directory) -> how it ended."""


async def first_endpoint(controller: Controller, first: FirstEndpoint) -> None:
    """Make the first endpoint if the store never had one. A refusal is an event, and the server serves without it."""
    if controller.store.ever_had_an_endpoint():
        return
    try:
        model = controller.offers.model(first.model)
        chunk = controller.offers.profile(model).chunk
        most = min(2, controller.offers.capacity(model))
        asked = AskedEntity(
            name=None,
            model=first.model,
            version=None,
            min_tokens_s=chunk,
            max_tokens_s=max(1, most) * chunk,
            scale_to_zero=False,
        )
        config = AskedConfig(entities=(asked,))
        controller.endpoints.create(first.name, config, creator="first start", options=Options())
    except Refusal as refusal:
        log.error("no first endpoint", extra={"fields": {"why": refusal.message}})
        controller.events.add(
            controller.clock.now_ms(), "first_endpoint_refused", f"no first endpoint: {refusal.message}"
        )


def to_measure(controller: Controller, first: FirstEndpoint) -> Endpoint | None:
    """The first endpoint, while it is sold by provisional figures and measuring was not given up."""
    endpoint = controller.store.named(first.name)
    if endpoint is None:
        return None
    entities = [entity for entity in endpoint.target.entities if entity.model.name == first.model]
    if all(entity.profile_status != "provisional" for entity in entities):
        return None
    events = controller.events.list(endpoint=endpoint.id, limit=100_000)
    return None if any(event.kind == GAVE_UP for event in events) else endpoint


async def measure_first(controller: Controller, endpoint: Endpoint, model: str, measure: Measure) -> None:
    """Measure a model of the endpoint, in the version that it serves, once that serves, and sell it by what was found.
    Ends, whatever it is doing, when the endpoint's name is taken out of ``controller.measuring``."""
    name = endpoint.name
    of_model = [entity for entity in endpoint.target.entities if entity.model.name == model]
    served = max(of_model, key=lambda entity: entity.profile_status == "provisional").model
    controller.measuring.add(name)
    attempts = asyncio.create_task(_attempts(controller, endpoint, served, measure))
    try:
        while not attempts.done() and name in controller.measuring:
            await asyncio.wait({attempts}, timeout=POLL_S)
        if attempts.done():
            attempts.result()
        else:
            await _end(attempts)
            _forget_profile(controller, served)
            _give_up(controller, endpoint, served, "measuring was stopped by hand")
    finally:
        await _end(attempts)
        controller.measuring.discard(name)


async def _attempts(controller: Controller, endpoint: Endpoint, served: ModelSettings, measure: Measure) -> None:
    if not await _is_ready(controller, endpoint.name):
        _give_up(controller, endpoint, served, "its first config did not become ready")
        return
    why, model = "", controller.offers.spec(served)
    for attempt in range(1, MOST_ATTEMPTS + 1):
        before, last = await _idle(controller), attempt == MOST_ATTEMPTS
        outcome = await _unless_served(controller, before, measure(served.spec, controller.data.root))
        attempted = f"measuring {model}, attempt {attempt} of {MOST_ATTEMPTS}"
        if outcome is not None and outcome.code == 0 and (last or not outcome.disturbed):
            if outcome.disturbed:
                kept = f"{attempted}: {_disturbance(outcome)}; its figures are kept; `headrace profile {model}`"
                _event(controller, endpoint, DISTURBED, kept)
            try:
                controller.endpoints.measured(endpoint.name, served.name, served.version)
            except Refusal as refusal:
                _event(controller, endpoint, GAVE_UP, f"the profile of {model} cannot be used: {refusal.message}")
            return
        why = _why_not_kept(outcome)
        then = "" if last else "; it is measured again"
        _event(controller, endpoint, SPOILED, f"{attempted}: not kept, since {why}{then}")
        _forget_profile(controller, served)
        if not last:
            await (_quiet(controller) if outcome is None else asyncio.sleep(RETRY_S))
    _give_up(controller, endpoint, served, why)


async def _unless_served(
    controller: Controller, before: tuple[int, int], measuring: Coroutine[object, object, Outcome]
) -> Outcome | None:
    """How the measurement ended; None where a request came, which ends it at once."""
    task = asyncio.create_task(measuring)
    try:
        while not task.done() and _dispatched(controller) == before:
            await asyncio.wait({task}, timeout=POLL_S)
        return task.result() if task.done() and _dispatched(controller) == before else None
    finally:
        await _end(task)


async def _end(task: asyncio.Task[Any]) -> None:
    """Returns when it is over, by force where it must be."""
    if not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _why_not_kept(outcome: Outcome | None) -> str:
    """Of an attempt's figures."""
    if outcome is None:
        return "a request was served meanwhile"
    if outcome.code == 0:
        return _disturbance(outcome)
    said = outcome.said.rstrip(".; \n") or "it said nothing"
    ended = f"by signal {-outcome.code}" if outcome.code < 0 else f"with code {outcome.code}"
    return f"it ended {ended}: {said}"


def _give_up(controller: Controller, endpoint: Endpoint, served: ModelSettings, why: str) -> None:
    model = controller.offers.spec(served)
    said = f"{model} keeps its provisional profile: {why}; `headrace profile {model}` measures it by hand"
    _event(controller, endpoint, GAVE_UP, said)


async def quick_profile(model: str, data_dir: Path) -> Outcome:
    """Run ``headrace profile --quick`` as a process that cannot outlive this one. Must be called in the main thread."""
    command = "from headrace.cli.main import main; main()"
    argv = [sys.executable, "-c", command, "profile", model, "--quick", "--json", "--data-dir", str(data_dir)]
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as told:
        process = spawn(argv, stdin="", stdout=told, stderr=said)
        try:
            in_time = await _ends(process.pid)
        finally:
            # Also where this was cancelled: nothing of it is left running. Before the wait, its number is its own.
            kill_group(process.pid)
            code = process.wait()
        said.seek(0)
        words = said.read()[-2000:].decode(errors="replace").strip()
        told.seek(0)
        seen = _told(told.read())
        if not in_time:
            words = "; ".join(filter(None, (f"it did not end within {TIMEOUT_S:g} s", words)))
        # A profile that others disturbed is there all the same: it is for the caller to say whether to keep it.
        written = code == INVALID_STATUS and seen.disturbed
        return Outcome(0 if written else code, words, seen.others, seen.disturbed)


def _told(output: bytes) -> _Told:
    """Nothing, where the process ended without its line."""
    try:
        return msgspec.json.decode(output, type=_Told)
    except msgspec.DecodeError:
        return _Told()


def _disturbance(outcome: Outcome) -> str:
    used = "much" if outcome.others is None else f"{outcome.others:.0%}"
    return f"other programs used {used} of the cores' time meanwhile"


async def _ends(pid: int) -> bool:
    """Wait for a child's end; whether it came in time."""
    loop = asyncio.get_running_loop()
    pidfd, ended = os.pidfd_open(pid), asyncio.Event()
    loop.add_reader(pidfd, ended.set)
    try:
        await asyncio.wait_for(ended.wait(), TIMEOUT_S)
        return True
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)


async def _is_ready(controller: Controller, name: str) -> bool:
    """Wait until the endpoint serves; False where it failed or was deleted."""
    while True:
        endpoint = controller.store.named(name)
        if endpoint is None or endpoint.update == "UPDATE_FAILED":
            return False
        if endpoint.update == "NOT_UPDATING" and controller.chunks(endpoint).ready > 0:
            return True
        await asyncio.sleep(POLL_S)


async def _idle(controller: Controller) -> tuple[int, int]:
    """Wait until no request runs: one that does would spoil the measurement from its start."""
    while True:
        now = _dispatched(controller)
        if not now[1]:
            return now
        await asyncio.sleep(POLL_S)


async def _quiet(controller: Controller) -> None:
    """Wait until no request has come for ``QUIET_S``."""
    while True:
        before = await _idle(controller)
        until = time.monotonic() + QUIET_S
        while _dispatched(controller) == before:
            if time.monotonic() >= until:
                return
            await asyncio.sleep(POLL_S)


def _dispatched(controller: Controller) -> tuple[int, int]:
    """Requests that were dispatched so far, and those that run now, at all endpoints."""
    endpoints = controller.store.endpoints()
    return (
        sum(controller.gateways.totals(endpoint.id).dispatched for endpoint in endpoints),
        sum(controller.gateways.gauges(endpoint.id).in_flight for endpoint in endpoints),
    )


def _forget_profile(controller: Controller, model: ModelSettings) -> None:
    """A spoiled profile must not be sold by anybody."""
    path_of(model, controller.data.profiles).unlink(missing_ok=True)


def _event(controller: Controller, endpoint: Endpoint, kind: Kind, message: str) -> None:
    log.info(message)
    controller.events.add(controller.clock.now_ms(), kind, message, endpoint=(endpoint.id, endpoint.name))
