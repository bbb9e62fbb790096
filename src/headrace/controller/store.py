"""Endpoints and their config versions: kept in the database, held in memory, written through.

One controller is the only writer, so what is in memory is what is in the database.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from headrace.controller.endpoint import Config, Endpoint, Entity, Options, UpdateState
from headrace.controller.tables import ConfigRow, CounterRow, EndpointRow, EntityRow, PermissionsRow, TagRow
from headrace.engines.base import ModelSettings
from headrace.ledger.database import Database
from headrace.policy.work import Weights


class EntityName(NamedTuple):
    """How people call a served entity."""

    endpoint: str
    entity: str


class Store:
    """All endpoints that were not deleted, by name and by id."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._by_id: dict[str, Endpoint] = {}
        self._configs: dict[tuple[str, int], Config] = {}
        with database.read() as session:
            for row in session.scalars(select(EndpointRow).where(EndpointRow.deleted_ms.is_(None))):
                self._by_id[row.id] = self._restore(session, row)

    # Reading

    def endpoints(self) -> list[Endpoint]:
        return sorted(self._by_id.values(), key=lambda endpoint: (endpoint.created_ms, endpoint.name))

    def named(self, name: str) -> Endpoint | None:
        return next((endpoint for endpoint in self._by_id.values() if endpoint.name == name), None)

    def get(self, endpoint_id: str) -> Endpoint | None:
        return self._by_id.get(endpoint_id)

    def ever_had_an_endpoint(self) -> bool:
        with self._database.read() as session:
            return session.scalar(select(EndpointRow.id).limit(1)) is not None

    def ids_named(self, name: str) -> list[str]:
        """Ids of all endpoints that ever had the name, oldest first."""
        with self._database.read() as session:
            query = select(EndpointRow.id).where(EndpointRow.name == name).order_by(EndpointRow.created_ms)
            return list(session.scalars(query))

    def names(self) -> dict[str, str]:
        """Name by id of every endpoint that ever was."""
        with self._database.read() as session:
            return {row.id: row.name for row in session.execute(select(EndpointRow.id, EndpointRow.name))}

    def config(self, endpoint_id: str, version: int) -> Config | None:
        """Any config version there ever was, also of an endpoint that was deleted."""
        known = self._configs.get((endpoint_id, version))
        if known is None:
            with self._database.read() as session:
                known = _read_config(session, endpoint_id, version)
            if known is not None:
                self._configs[endpoint_id, version] = known
        return known

    def entity(self, endpoint_id: str, version: int, entity_id: str) -> Entity | None:
        """A served entity by the terms of any config version there ever was."""
        config = self.config(endpoint_id, version)
        return config.entity(entity_id) if config else None

    def weights(self, endpoint_id: str, version: int, entity_id: str) -> Weights | None:
        """The weights that a config version froze for a served entity."""
        entity = self.entity(endpoint_id, version, entity_id)
        return entity.weights if entity else None

    def entity_names(self) -> dict[str, EntityName]:
        """By id: every served entity that ever was, each by its newest config version."""
        query = select(EntityRow.id, EndpointRow.name, EntityRow.name).join(EndpointRow).order_by(EntityRow.version)
        with self._database.read() as session:
            return {entity_id: EntityName(endpoint, name) for entity_id, endpoint, name in session.execute(query)}

    # Writing

    def create(self, endpoint: Endpoint) -> None:
        """Add an endpoint with its pending first config. The caller has checked that its name is free."""
        assert endpoint.pending is not None
        with self._database.write() as session:
            session.add(
                EndpointRow(
                    id=endpoint.id,
                    name=endpoint.name,
                    created_ms=endpoint.created_ms,
                    updated_ms=endpoint.updated_ms,
                    deleted_ms=None,
                    creator=endpoint.creator,
                    description=endpoint.description,
                    options=msgspec.to_builtins(endpoint.options),
                    active_version=None,
                    pending_version=endpoint.pending.version,
                    update_state=endpoint.update,
                    update_message=endpoint.update_message,
                )
            )
            session.flush()
            _write_config(session, endpoint.id, endpoint.pending)
            session.add_all(TagRow(endpoint_id=endpoint.id, key=key, value=value) for key, value in endpoint.tags)
        self._by_id[endpoint.id] = endpoint
        self._configs[endpoint.id, endpoint.pending.version] = endpoint.pending

    def next_version(self, endpoint_id: str) -> int:
        """Of the next config; numbers of failed updates are not used again."""
        with self._database.read() as session:
            query = select(func.max(ConfigRow.version)).where(ConfigRow.endpoint_id == endpoint_id)
            return (session.scalar(query) or 0) + 1

    def propose(self, endpoint_id: str, config: Config, now_ms: int) -> Endpoint:
        """A new pending config."""
        with self._database.write() as session:
            _write_config(session, endpoint_id, config)
            _change(
                session,
                endpoint_id,
                pending_version=config.version,
                update_state="IN_PROGRESS",
                update_message="",
                updated_ms=now_ms,
            )
        self._configs[endpoint_id, config.version] = config
        return self._replace(endpoint_id, pending=config, update="IN_PROGRESS", update_message="", updated_ms=now_ms)

    def activate(self, endpoint_id: str, now_ms: int) -> Endpoint:
        """The pending config is served and sold from now on; the update goes on until it can serve."""
        pending = self._by_id[endpoint_id].pending
        assert pending is not None
        with self._database.write() as session:
            _change(session, endpoint_id, active_version=pending.version, pending_version=None, updated_ms=now_ms)
        return self._replace(endpoint_id, active=pending, pending=None, updated_ms=now_ms)

    def conclude(self, endpoint_id: str, state: UpdateState, message: str, *, drop_pending: bool = False) -> Endpoint:
        """How the update stands. ``drop_pending``: the active config stays."""
        changes: dict[str, Any] = {"update_state": state, "update_message": message}
        if drop_pending:
            changes["pending_version"] = None
        with self._database.write() as session:
            _change(session, endpoint_id, **changes)
        dropped: dict[str, Any] = {"pending": None} if drop_pending else {}
        return self._replace(endpoint_id, update=state, update_message=message, **dropped)

    def set_options(self, endpoint_id: str, options: Options, now_ms: int) -> Endpoint:
        with self._database.write() as session:
            _change(session, endpoint_id, options=msgspec.to_builtins(options), updated_ms=now_ms)
        return self._replace(endpoint_id, options=options, updated_ms=now_ms)

    def set_tags(self, endpoint_id: str, tags: tuple[tuple[str, str], ...]) -> Endpoint:
        with self._database.write() as session:
            session.execute(delete(TagRow).where(TagRow.endpoint_id == endpoint_id))
            session.add_all(TagRow(endpoint_id=endpoint_id, key=key, value=value) for key, value in tags)
        return self._replace(endpoint_id, tags=tags)

    def delete(self, endpoint_id: str, now_ms: int) -> None:
        with self._database.write() as session:
            _change(session, endpoint_id, deleted_ms=now_ms, updated_ms=now_ms)
            session.execute(delete(PermissionsRow).where(PermissionsRow.endpoint_id == endpoint_id))
        del self._by_id[endpoint_id]

    def count(self, name: str) -> int:
        """The next number of a counter: strictly growing, over restarts too."""
        with self._database.write() as session:
            row = session.get(CounterRow, name)
            if row is None:
                row = CounterRow(name=name, value=0)
                session.add(row)
            row.value += 1
            return row.value

    def _replace(self, endpoint_id: str, **changes: Any) -> Endpoint:
        endpoint = msgspec.structs.replace(self._by_id[endpoint_id], **changes)
        self._by_id[endpoint_id] = endpoint
        return endpoint

    def _restore(self, session: Session, row: EndpointRow) -> Endpoint:
        configs: dict[str, Config | None] = {}
        for role, version in (("active", row.active_version), ("pending", row.pending_version)):
            configs[role] = None if version is None else _read_config(session, row.id, version)
            config = configs[role]
            if config is not None:
                self._configs[row.id, config.version] = config
        tags = session.scalars(select(TagRow).where(TagRow.endpoint_id == row.id).order_by(TagRow.key))
        return Endpoint(
            id=row.id,
            name=row.name,
            created_ms=row.created_ms,
            updated_ms=row.updated_ms,
            creator=row.creator,
            description=row.description,
            tags=tuple((tag.key, tag.value) for tag in tags),
            options=msgspec.convert(row.options, Options),
            active=configs["active"],
            pending=configs["pending"],
            update=msgspec.convert(row.update_state, UpdateState),
            update_message=row.update_message,
        )


def _change(session: Session, endpoint_id: str, **values: Any) -> None:
    session.execute(update(EndpointRow).where(EndpointRow.id == endpoint_id).values(**values))


def _write_config(session: Session, endpoint_id: str, config: Config) -> None:
    session.add(ConfigRow(endpoint_id=endpoint_id, version=config.version, created_ms=config.created_ms))
    for position, entity in enumerate(config.entities):
        session.add(
            EntityRow(
                endpoint_id=endpoint_id,
                version=config.version,
                id=entity.id,
                position=position,
                name=entity.name,
                model=entity.model.name,
                model_settings=msgspec.to_builtins(entity.model),
                traffic=entity.traffic,
                min_chunks=entity.min_chunks,
                max_chunks=entity.max_chunks,
                scale_to_zero=entity.scale_to_zero,
                chunk=entity.chunk,
                weights=msgspec.to_builtins(entity.weights),
                price_micro=entity.price_micro,
                currency=entity.currency,
                profile_id=entity.profile_id,
                profile_status=entity.profile_status,
                created_ms=entity.created_ms,
            )
        )


def _read_config(session: Session, endpoint_id: str, version: int) -> Config | None:
    head = session.get(ConfigRow, (endpoint_id, version))
    if head is None:
        return None
    rows = session.scalars(
        select(EntityRow)
        .where(EntityRow.endpoint_id == endpoint_id, EntityRow.version == version)
        .order_by(EntityRow.position)
    )
    return Config(version=version, created_ms=head.created_ms, entities=tuple(_entity(row) for row in rows))


def _entity(row: EntityRow) -> Entity:
    return Entity(
        id=row.id,
        name=row.name,
        model=msgspec.convert(row.model_settings, ModelSettings),
        traffic=row.traffic,
        min_chunks=row.min_chunks,
        max_chunks=row.max_chunks,
        scale_to_zero=row.scale_to_zero,
        chunk=row.chunk,
        weights=msgspec.convert(row.weights, Weights),
        price_micro=row.price_micro,
        currency=row.currency,
        profile_id=row.profile_id,
        profile_status=row.profile_status,
        created_ms=row.created_ms,
    )
