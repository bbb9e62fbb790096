"""Whatever is lost, late or told twice, and wherever the controller dies: in the end what was bought runs, once."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from unittest import mock

from controller_fleet import ToyFleet, TurnedClock
from controller_world import World
from hypothesis import HealthCheck, settings
from hypothesis import Phase as Stage
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select
from sqlalchemy.orm import Session

from headrace.controller import controller as controller_module
from headrace.controller.backoff import LONGEST_DELAY_S
from headrace.controller.gateways import RECONNECT_GRACE_S
from headrace.controller.lifecycle import UNSEEN_S, Phase
from headrace.controller.refusal import Refusal
from headrace.controller.rollout import of
from headrace.controller.tables import ReplicaRow
from headrace.engines.base import ModelSettings
from headrace.fleet.base import FleetError, FleetReplica
from headrace.ledger.bills import bill

PLACES = 4
MODELS = ("toy", "other")


class ControllerDied(BaseException):
    """Raised where the controller dies: nothing in it may catch it."""


class Mortality:
    """Counts the points at which a controller can die, and lets it die at one of them."""

    def __init__(self) -> None:
        self.points_left: int | None = None

    def point(self) -> None:
        if self.points_left is not None:
            self.points_left -= 1
            if self.points_left < 0:
                self.points_left = None
                raise ControllerDied


class UnreliableFleet(ToyFleet):
    """What happens (``seen``) and what the controller has heard of it (``heard``) are two things."""

    def __init__(self, clock: TurnedClock, places: int, mortality: Mortality) -> None:
        super().__init__(clock, places)
        self.mortality = mortality
        self.heard: dict[str, FleetReplica] = {}
        self.next_start = "well"
        self.next_stop_fails = False
        self.late: list[tuple[str, ModelSettings, Mapping[str, str] | None]] = []
        """Starts that a controller asked for before it died, and that are on their way still."""
        self.asked: Counter[str] = Counter()

    def replicas(self) -> tuple[FleetReplica, ...]:
        return tuple(self.heard.values())

    def hear(self, *names: str) -> None:
        """News of the named replicas arrive, or of all."""
        for name in names or list(self.seen):
            self.heard[name] = self.seen[name]

    async def start(
        self, replica: str, model: ModelSettings, *, labels: Mapping[str, str] | None = None
    ) -> FleetReplica:
        self.asked[replica] += 1
        how, self.next_start = self.next_start, "well"
        if how == "refused":
            raise FleetError("refused")
        if how == "late":
            self.late.append((replica, model, labels))
            raise ControllerDied
        self.mortality.point()
        started = await super().start(replica, model, labels=labels)
        self.mortality.point()
        if how == "answer lost":
            raise FleetError("no answer")
        return started

    async def stop(self, replica: str) -> None:
        if self.next_stop_fails:
            self.next_stop_fails = False
            raise FleetError("no answer")
        if self.seen[replica].state != "exited":
            await super().stop(replica)

    async def arrive(self) -> None:
        """What was on its way arrives; a place that is taken by now is refused."""
        late, self.late = self.late, []
        for replica, model, labels in late:
            if self.room(model):
                await super().start(replica, model, labels=labels)


class MortalWorld(World):
    """A world whose controller can die before and after each of its transactions and asks."""

    def __init__(self, folder: Path) -> None:
        self.mortality = Mortality()
        super().__init__(folder, places=PLACES)
        self.controller.database.close()
        self.fleet = self.unreliable = UnreliableFleet(self.clock, PLACES, self.mortality)
        self.controller = self.born()

    def born(self) -> controller_module.Controller:
        """A controller that has asked the fleet what runs."""
        self.unreliable.hear()
        controller = self._controller()
        write, database = controller.database.write, controller.database

        @contextmanager
        def mortal_write() -> Iterator[Session]:
            self.mortality.point()
            with write() as session:
                yield session
            self.mortality.point()

        database.write = mortal_write  # type: ignore[method-assign]
        return controller

    def restart(self) -> None:
        self.mortality.points_left = None
        self.controller.database.close()
        self.controller = self.born()


class Life(RuleBasedStateMachine):
    """One endpoint on a machine of four places, which its owner changes while everything goes wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="headrace-life-"))
        self.loop = asyncio.new_event_loop()
        self.world = MortalWorld(self.folder / "data")
        # A database of this version needs no second look at its schema: the test would do little else.
        self.no_upgrade = mock.patch.object(controller_module, "upgrade", lambda database: None)
        self.no_upgrade.start()
        for model in MODELS:
            self.world.model(model)

    @initialize(chunks=st.integers(1, PLACES))
    def create(self, chunks: int) -> None:
        self.world.create("a", chunks, chunks)

    # What the owner does

    @rule(chunks=st.integers(1, PLACES), model=st.sampled_from(MODELS))
    def update(self, chunks: int, model: str) -> None:
        try:
            self.world.update("a", chunks, chunks, model=model)
        except Refusal as refusal:
            assert refusal.code == "RESOURCE_CONFLICT"  # another update goes on

    # What happens

    @rule(seconds=st.sampled_from((1, 2, 10, 70)))
    def time_passes(self, seconds: int) -> None:
        self.world.clock.ms += seconds * 1000

    @rule()
    def loads(self) -> None:
        self.world.fleet.load()

    @precondition(lambda self: self.world.fleet.living())
    @rule(data=st.data())
    def one_crashes(self, data: st.DataObject) -> None:
        self.world.fleet.crash(data.draw(st.sampled_from(self.world.fleet.living())))

    @rule(data=st.data())
    def news_arrive(self, data: st.DataObject) -> None:
        """Of some, and of some once more."""
        names = sorted(self.world.fleet.seen)
        if names:
            self.world.unreliable.hear(*data.draw(st.lists(st.sampled_from(names), min_size=1)))

    @rule(how=st.sampled_from(("refused", "answer lost")))
    def the_next_start_goes_wrong(self, how: str) -> None:
        self.world.unreliable.next_start = how

    @rule()
    def the_next_stop_goes_wrong(self) -> None:
        self.world.unreliable.next_stop_fails = True

    @precondition(lambda self: self.world.unreliable.late)
    @rule()
    def what_was_late_arrives(self) -> None:
        self.run(self.world.unreliable.arrive)

    # What the controller does

    @rule()
    def looks(self) -> None:
        """What it has and keeps after a look is no more than was bought."""
        self.run(self.world.step)
        endpoint = self.world.get("a")
        for entity in endpoint.target.entities:
            assert len(of(self.world.controller.roster.of(endpoint.id), entity)) <= entity.max_chunks

    @rule(points=st.integers(0, 12))
    def looks_and_dies(self, points: int) -> None:
        self.world.mortality.points_left = points
        self.run(self.world.step)
        self.world.restart()

    @rule()
    def dies_over_a_start_that_arrives_later(self) -> None:
        self.world.unreliable.next_start = "late"
        self.run(self.world.step)
        self.world.unreliable.next_start = "well"
        self.world.restart()

    # What always holds

    @invariant()
    def no_replica_is_asked_for_twice(self) -> None:
        assert not [name for name, count in self.world.unreliable.asked.items() if count > 1]

    def teardown(self) -> None:
        """Nothing goes wrong any more: what runs becomes what was bought. So it does after another update, of which a
        start and a stop go wrong; and then nothing changes any more."""
        world, fleet = self.world, self.world.unreliable
        try:
            world.mortality.points_left, fleet.next_start, fleet.next_stop_fails = None, "well", False
            self.run(fleet.arrive)
            self._settle()
            fleet.next_start, fleet.next_stop_fails = "answer lost", True
            self.update(2, "other" if world.get("a").current.entities[0].model.name == "toy" else "toy")
            self._settle()
            assert (fleet.next_start, fleet.next_stop_fails) == ("well", False)
            settled = (set(fleet.living()), fleet.started, world.snapshot.version, len(world.kinds()))
            for _ in range(3):
                self.run(world.step, max(UNSEEN_S, LONGEST_DELAY_S) + 1)
            assert settled == (set(fleet.living()), fleet.started, world.snapshot.version, len(world.kinds()))
        finally:
            self.no_upgrade.stop()
            world.controller.database.close()
            self.loop.close()
            shutil.rmtree(self.folder)

    def _settle(self) -> None:
        fleet = self.world.unreliable
        fleet.hear()
        self.world.clock.ms += int(RECONNECT_GRACE_S * 1000)
        for _ in range(24):
            self.run(self.world.step, 13.0)
            fleet.load()
            fleet.hear()
            if self.world.get("a").pending is None and self.world.phases("a") == ["ready"] * len(fleet.living()):
                break
        self.run(self.world.step, 1.0)
        self._check()

    def _check(self) -> None:
        world, controller = self.world, self.world.controller
        endpoint = world.get("a")
        (entity,) = endpoint.target.entities
        replicas = controller.roster.of(endpoint.id)
        assert endpoint.update in ("NOT_UPDATING", "UPDATE_FAILED") and endpoint.pending is None
        assert [replica.phase for replica in replicas] == [Phase.READY] * entity.min_chunks
        assert {replica.model.name for replica in replicas} <= {entity.model.name}
        assert sorted(world.fleet.living()) == sorted(replica.id for replica in replicas), "no orphan, and no twin"
        assert sorted(view.id for view in world.snapshot.replicas) == sorted(world.fleet.living())
        with controller.database.read() as session:
            assert sorted(session.scalars(select(ReplicaRow.id))) == sorted(world.fleet.living())
        self._check_bill(endpoint.id)

    def _check_bill(self, endpoint_id: str) -> None:
        now_ms = self.world.clock.ms
        for one in bill(self.world.controller.timeline, endpoint_id, 0, now_ms, now_ms).entities:
            spans = [span for line in one.lines for span in line.spans]
            assert all(before.to_ms <= after.from_ms for before, after in pairwise(spans)), "nothing is billed twice"
            assert all(span.chunks <= PLACES for span in spans)

    def run(self, work: Callable[..., object], *arguments: object) -> None:
        """Until it is done, or the controller dies in it."""

        async def alive() -> None:
            try:
                await work(*arguments)  # type: ignore[misc]
            except ControllerDied:
                await self._bury()

        self.loop.run_until_complete(alive())

    async def _bury(self) -> None:
        """What the dead controller did beside itself ends with it."""
        stops = list(self.world.controller.reconciler._stops.values())
        for stop in stops:
            stop.cancel()
        await asyncio.gather(*stops, return_exceptions=True)
        self.world.restart()


Life.TestCase.settings = settings(
    max_examples=10,
    stateful_step_count=25,
    phases=[Stage.generate],  # what fails is short enough to be read as it is
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestLife = Life.TestCase
