"""From what an endpoint should be and what runs to what is to be done: the whole roll-out law, as one pure function.

- A pending config that runs the same replicas (another range, price or chunk) restarts nothing; it becomes active as
  soon as enough of them are ready.
- One that runs other replicas comes up beside the old ones where the machine has room, and takes over when it can
  serve. Where there is no room, it takes over at once, the old ones drain, and requests wait for the new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headrace.controller.endpoint import Config, Endpoint
from headrace.controller.lifecycle import COMING, DrainCause, Phase, Replica


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What to do for one endpoint now."""

    config: Config
    """What the endpoint is to become."""
    revive: tuple[Replica, ...] = ()
    """Draining replicas that are needed again: quicker than a start, and there may be no room for one."""
    start: int = 0
    """New replicas of ``config``."""
    drain: tuple[tuple[Replica, DrainCause], ...] = ()
    activate: bool = False
    """The pending config becomes the active one."""
    conclude: bool = False
    """The update is done: what is active can serve."""


def chunks_wanted(endpoint: Endpoint, decided: int) -> int:
    """Replicas of the target config: what the scaling law decided on the active one, within the target's range."""
    entity = endpoint.target.entity
    return min(max(decided, entity.min_chunks), entity.max_chunks)


def of(replicas: Sequence[Replica], config: Config) -> list[Replica]:
    """Those that run what a config runs and are to stay."""
    runs_as = config.entity.runs_as
    return [r for r in replicas if r.runs_as == runs_as and r.phase in COMING | {Phase.READY}]


def step(
    endpoint: Endpoint,
    replicas: Sequence[Replica],
    granted: int,
    free: int,
    *,
    may_start: bool,
    in_flight: Callable[[str], int],
) -> Step:
    """``granted``: replicas that the target may have. ``free``: replicas of the target that fit beside all that lives.

    ``in_flight``: requests on a replica, by which the one that loses least is chosen to drain.
    """
    target = endpoint.target
    ours = of(replicas, target)
    others = [r for r in replicas if r not in ours and r.phase in COMING | {Phase.READY}]
    ready = sum(r.phase is Phase.READY for r in ours)
    servable = ready >= target.entity.min_chunks

    no_room = bool(others) and len(ours) + free < target.entity.min_chunks
    # What never could serve is not sold: a first config waits until it can.
    activate = endpoint.pending is not None and (servable or (endpoint.active is not None and no_room))
    replaced = endpoint.pending is None or activate

    drain: list[tuple[Replica, DrainCause]] = [(r, "replaced") for r in others] if replaced else []
    surplus = len(ours) - granted
    if surplus > 0:
        # Those that serve nothing yet go first, then those with the least to finish; of equals the youngest.
        def loss(replica: Replica) -> tuple[bool, int, int]:
            return (replica.phase is Phase.READY, in_flight(replica.id), -replica.created_ms)

        drain += [(r, "scale_down") for r in sorted(ours, key=loss)[:surplus]]
    missing = max(0, granted - len(ours))
    revive = [r for r in replicas if _can_serve_again(r, target)][:missing]
    return Step(
        config=target,
        revive=tuple(revive),
        start=min(missing - len(revive), free) if may_start else 0,
        drain=tuple(drain),
        activate=activate,
        conclude=servable and endpoint.update == "IN_PROGRESS",
    )


def _can_serve_again(replica: Replica, target: Config) -> bool:
    return (
        replica.phase is Phase.DRAINING
        and replica.drain_cause == "scale_down"
        and replica.runs_as == target.entity.runs_as
        and replica.url is not None
        and not replica.stopping
    )
