"""Several served entities an endpoint: their order and traffic, whose replica and whose capacity it is; key weights.

Until here an endpoint had one served entity at a time, and one line of capacity points whatever it served. Each point
now belongs to the entity of its config version, so where that changed the line of the one before must end.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("served_entities", sa.Column("position", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("served_entities", sa.Column("traffic", sa.Integer(), nullable=False, server_default="100"))
    op.add_column("keys", sa.Column("weight", sa.Float(), nullable=False, server_default="1"))
    op.add_column("replicas", sa.Column("entity_id", sa.String(length=32), nullable=False, server_default=""))
    op.execute(
        "UPDATE replicas SET entity_id = COALESCE((SELECT id FROM served_entities AS e "
        "WHERE e.endpoint_id = replicas.endpoint_id AND e.version = replicas.config_version), '')"
    )
    op.add_column("capacity_points", sa.Column("entity", sa.String(length=64), nullable=False, server_default=""))
    op.execute(
        "UPDATE capacity_points SET entity = COALESCE((SELECT id FROM served_entities AS e "
        "WHERE e.endpoint_id = capacity_points.endpoint AND e.version = capacity_points.config_version), '')"
    )
    _end_what_was_replaced()


def _end_what_was_replaced() -> None:
    points = sa.table("capacity_points", *map(sa.column, _POINT))
    before: sa.Row[tuple[object, ...]] | None = None
    ends = []
    for point in op.get_bind().execute(sa.select(points).order_by(points.c.endpoint, sa.column("id"))):
        if before is not None and before.endpoint == point.endpoint and before.entity != point.entity:
            nothing = {"ready": 0, "draining_own": 0, "min_chunks": 0, "endpoint_ready": False, "exists": False}
            ends.append(before._asdict() | nothing | {"at_ms": point.at_ms})
        before = point
    if ends:
        op.bulk_insert(points, ends)


_POINT = (
    "endpoint",
    "entity",
    "at_ms",
    "ready",
    "draining_own",
    "min_chunks",
    "endpoint_ready",
    "price_micro_per_chunk_hour",
    "config_version",
    "exists",
)
