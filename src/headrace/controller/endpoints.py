"""What can be done to endpoints. Each call checks everything before it changes anything."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable

import msgspec

from headrace.controller.asked import AskedConfig
from headrace.controller.endpoint import Config, Endpoint, Entity, Options
from headrace.controller.events import Actor, EventLog, Kind
from headrace.controller.offers import Offers
from headrace.controller.options import changes, check_fit, check_values, differences
from headrace.controller.provided import ended
from headrace.controller.refusal import Refusal
from headrace.controller.store import Store
from headrace.controller.words import counted, listed, profiled
from headrace.engines.base import FIRST_VERSION, ModelSettings
from headrace.ledger.capacity import CapacityTimeline

NAME = re.compile(r"[A-Za-z0-9_-]{1,63}")
RESERVED = frozenset(
    {"chat", "completions", "embeddings", "responses", "pt", "get-model-optimization-info", "images", "audio", "models"}
)
"""Words that stand where a name would in some path."""
LONGEST_DESCRIPTION = 2048
MOST_TAGS = 20


class Endpoints:
    """The use cases behind the REST API. ``changed`` is called after each change: a step should follow."""

    def __init__(
        self,
        *,
        store: Store,
        offers: Offers,
        events: EventLog,
        timeline: CapacityTimeline,
        now_ms: Callable[[], int],
        changed: Callable[[], None],
    ) -> None:
        self.store = store
        self.offers = offers
        self._events = events
        self._timeline = timeline
        self._now_ms = now_ms
        self._changed = changed

    def get(self, name: str) -> Endpoint:
        """Raises Refusal."""
        endpoint = self.store.named(name)
        if endpoint is None:
            raise unknown(name, self.store.endpoints())
        return endpoint

    def create(
        self,
        name: str,
        asked: AskedConfig,
        *,
        creator: str,
        options: Options,
        description: str = "",
        tags: tuple[tuple[str, str], ...] = (),
        by: Actor | None = None,
    ) -> Endpoint:
        """``by``, here and below, is whom events name; None for the server itself. Raises Refusal."""
        endpoint = self.planned(name, asked, creator=creator, options=options, description=description, tags=tags)
        self.store.create(endpoint)
        self._tell(endpoint, "endpoint_created", f"endpoint {name} was created: {_terms(endpoint.target)}", by=by)
        return endpoint

    def planned(
        self,
        name: str,
        asked: AskedConfig,
        *,
        creator: str,
        options: Options,
        description: str = "",
        tags: tuple[tuple[str, str], ...] = (),
    ) -> Endpoint:
        """What ``create`` would store. Raises Refusal."""
        self._check_name(name)
        if len(description) > LONGEST_DESCRIPTION:
            raise Refusal(
                "INVALID_PARAMETER_VALUE",
                f"the description has {len(description)} characters; at most {LONGEST_DESCRIPTION}",
                param="description",
            )
        tags = _checked_tags(tags)
        check_values(options)
        now_ms = self._now_ms()
        entities = self.offers.entities(asked, now_ms=now_ms, before=None, others=self.store.endpoints())
        check_fit(options, entities)
        return Endpoint(
            id=uuid.uuid4().hex,
            name=name,
            created_ms=now_ms,
            updated_ms=now_ms,
            creator=creator,
            description=description,
            tags=tags,
            options=options,
            pending=Config(version=1, created_ms=now_ms, entities=entities),
            update="IN_PROGRESS",
        )

    def update(self, name: str, asked: AskedConfig, *, by: Actor | None = None) -> Endpoint:
        """A new config version. Raises Refusal, also while an update is in progress."""
        planned = self.planned_update(name, asked)
        return self._propose(planned, planned.target.entities, "config_proposed", by=by)

    def planned_update(self, name: str, asked: AskedConfig) -> Endpoint:
        """The endpoint as ``update`` would leave it. Raises Refusal."""
        endpoint = self.get(name)
        if endpoint.update == "IN_PROGRESS":
            raise Refusal(
                "RESOURCE_CONFLICT",
                f"endpoint {name!r} is being updated to config version {endpoint.target.version}; wait for that",
            )
        others = [other for other in self.store.endpoints() if other.id != endpoint.id]
        entities = self.offers.entities(asked, now_ms=self._now_ms(), before=endpoint.target, others=others)
        check_fit(endpoint.options, entities)
        version = self.store.next_version(endpoint.id)
        config = Config(version=version, created_ms=self._now_ms(), entities=entities)
        return msgspec.structs.replace(endpoint, pending=config, update="IN_PROGRESS", update_message="")

    def measured(self, name: str, model: str, version: str | None = None) -> Endpoint:
        """The same chunk counts with the newest profile of a version of a model, by default the newest, wherever the
        endpoint serves it. Raises Refusal."""
        endpoint = self.get(name)
        settings = self.offers.model(model, version)
        profile = self.offers.profile(settings)
        if all(entity.model.stem != settings.stem for entity in endpoint.target.entities):
            raise Refusal("RESOURCE_CONFLICT", f"endpoint {name!r} does not serve model {settings.spec!r} any more")
        entities = tuple(
            msgspec.structs.replace(
                entity,
                model=msgspec.structs.replace(entity.model, slots=profile.slots),
                chunk=profile.chunk,
                weights=profile.weights,
                profile_id=profile.id,
                profile_status=profile.status,
            )
            if entity.model.stem == settings.stem
            else entity
            for entity in endpoint.target.entities
        )
        return self._propose(endpoint, entities, "config_measured")

    def set_options(self, name: str, options: Options, *, by: Actor | None = None) -> Endpoint:
        """They hold at once, also while an update is in progress. Raises Refusal."""
        endpoint = self.get(name)
        check_values(options)
        check_fit(options, endpoint.target.entities)
        changed = self.store.set_options(endpoint.id, options, self._now_ms())
        if told := "; ".join(differences(endpoint.options, options)):
            message = f"options of {name} were changed: {told}"
            self._tell(changed, "options_changed", message, by=by, changed=changes(endpoint.options, options))
        return changed

    def tag(self, name: str, add: tuple[tuple[str, str], ...], delete: tuple[str, ...]) -> Endpoint:
        """Raises Refusal."""
        endpoint = self.get(name)
        kept = {key: value for key, value in endpoint.tags if key not in delete} | dict(add)
        return self.store.set_tags(endpoint.id, _checked_tags(tuple(sorted(kept.items()))))

    def delete(self, name: str, *, by: Actor | None = None) -> None:
        """Requests in flight end as they would; nothing new is taken. Raises Refusal."""
        endpoint = self.get(name)
        now_ms = self._now_ms()
        self.store.delete(endpoint.id, now_ms)
        for entity, point in self._timeline.newest(endpoint.id).items():
            self._timeline.note(endpoint.id, entity, ended(point, now_ms))
        self._tell(endpoint, "endpoint_deleted", f"endpoint {name} was deleted", by=by)

    def _propose(
        self, endpoint: Endpoint, entities: tuple[Entity, ...], kind: Kind, *, by: Actor | None = None
    ) -> Endpoint:
        version = self.store.next_version(endpoint.id)
        config = Config(version=version, created_ms=self._now_ms(), entities=entities)
        proposed = self.store.propose(endpoint.id, config, self._now_ms())
        self._tell(proposed, kind, f"config version {config.version} of {endpoint.name}: {_terms(config)}", by=by)
        return proposed

    def _check_name(self, name: str) -> None:
        if not NAME.fullmatch(name):
            raise Refusal(
                "INVALID_PARAMETER_VALUE",
                f"{name[:80]!r} is not a name for an endpoint; expected 1 to 63 letters, digits, '-' or '_'",
                param="name",
            )
        if name.lower() in RESERVED:
            raise Refusal("INVALID_PARAMETER_VALUE", f"{name!r} is a reserved word; choose another name", param="name")
        if self.store.named(name) is not None:
            raise Refusal("RESOURCE_ALREADY_EXISTS", f"endpoint {name!r} already exists", param="name")

    def _tell(self, endpoint: Endpoint, kind: Kind, message: str, *, by: Actor | None = None, **more: object) -> None:
        data = {"config_version": endpoint.target.version, **more}
        self._events.add(self._now_ms(), kind, message, endpoint=(endpoint.id, endpoint.name), data=data, by=by)
        self._changed()


def unknown(name: str, known: Iterable[Endpoint]) -> Refusal:
    """For a name that no endpoint has; ``known``: those that the caller may hear of."""
    told = listed([endpoint.name for endpoint in known])
    return Refusal("RESOURCE_DOES_NOT_EXIST", f"no endpoint {name[:80]!r}; there are: {told}", param="name")


def _terms(config: Config) -> str:
    if len(config.entities) == 1:
        return _range(config.entities[0])
    return "; ".join(f"{entity.name} with {entity.traffic}%, {_range(entity)}" for entity in config.entities)


def _range(entity: Entity) -> str:
    chunks = counted(entity.max_chunks, "chunk")
    if entity.min_chunks != entity.max_chunks:
        chunks = f"{entity.min_chunks} to {chunks}"
    return (
        f"{chunks} of {entity.chunk} reference tokens/s of {_called(entity.model)} "
        f"({profiled(entity.profile_status, entity.model.engine)})"
    )


def _called(model: ModelSettings) -> str:
    """Most models never have a second version, and need no number."""
    return model.name if model.version == FIRST_VERSION else model.spec


def _checked_tags(tags: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    if len(tags) > MOST_TAGS:
        raise Refusal("INVALID_PARAMETER_VALUE", f"{len(tags)} tags; at most {MOST_TAGS}", param="tags")
    if len(dict(tags)) != len(tags):
        raise Refusal("INVALID_PARAMETER_VALUE", "a tag's key stands twice", param="tags")
    for key, value in tags:
        if not 1 <= len(key) <= 255 or len(value) > 1000:
            raise Refusal(
                "INVALID_PARAMETER_VALUE",
                f"tag {key[:40]!r}: a key has 1 to 255 characters and a value up to 1000",
                param="tags",
            )
    return tuple(sorted(tags))
