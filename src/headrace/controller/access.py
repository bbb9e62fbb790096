"""Who calls, and what they may do: keys, service principals and permissions brought together.

Every caller has a valid key or access token. One with the role admin may do everything; the others what the permissions
of an endpoint give to them by name or to the group ``users``. Until these are changed, everybody may query an endpoint,
and who created it may manage it.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from headrace.controller.endpoint import Endpoint, RateLimit
from headrace.controller.events import Actor
from headrace.controller.keys import Key, Keys
from headrace.controller.permissions import Level, Levels, Permissions
from headrace.controller.principals import USERS, Principal
from headrace.controller.refusal import Refusal
from headrace.controller.service_principals import ServicePrincipals
from headrace.ledger.database import Database


class Access:
    """Held in memory; what it tells is what the store holds now."""

    def __init__(self, database: Database, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self.keys = Keys(database)
        self.service_principals = ServicePrincipals(database)
        self._permissions = Permissions(database)

    # Callers

    def caller(self, text: str) -> Key | None:
        """Whose key or access token this is, if it holds."""
        return self.keys.find(text) or self.service_principals.key_of(text, self._now_ms())

    def expired_ms(self, text: str) -> int | None:
        """When this access token expired, where it is one that did, not long ago."""
        return self.service_principals.expired_ms(text, self._now_ms())

    def called(self, owner: Principal) -> str:
        """What people call it: the name of a service principal, and for a key of nobody that of the key."""
        if owner.kind == "service_principal":
            found = self.service_principals.get(owner.name)
            return owner.name if found is None else found.name
        key = self.keys.get(owner.name) if owner.kind == "user" else None
        return owner.name if key is None or key.owner != owner else key.name or owner.name

    def actor(self, key: Key) -> Actor:
        """Who calls, for events."""
        kind = "key" if key.owner == Principal("user", key.id) else key.owner.kind.replace("_", " ")
        return Actor(str(key.owner), key.id, f"{kind} {self.called(key.owner)!r}")

    def credentials(self) -> list[Key]:
        """All keys and access tokens that hold now, or did until lately, for the gateways."""
        return [*self.keys.valid(), *self.service_principals.keys(self._now_ms())]

    def service_principal(self, text: str, *, param: str) -> Principal:
        """By its client id or its name. Raises Refusal."""
        found = self.service_principals.find(text)
        if found is None:
            raise Refusal(
                "RESOURCE_DOES_NOT_EXIST",
                f"no service principal {text[:80]!r}; `headrace service-principals list` shows them",
                param=param,
            )
        return found.principal

    # Permissions

    def levels(self, endpoint: Endpoint) -> Levels:
        """Of all principals that were given one, and still are."""
        levels = self._permissions.of(endpoint.id)
        if levels is None:
            levels = {USERS: Level.CAN_QUERY}
            creator = self._creator(endpoint)
            if creator is not None:
                levels[creator] = Level.CAN_MANAGE
        return {principal: level for principal, level in levels.items() if not self._was_deleted(principal)}

    def set_levels(self, endpoint: Endpoint, levels: Levels) -> None:
        self._permissions.set(endpoint.id, levels)

    def level(self, key: Key, endpoint: Endpoint) -> Level | None:
        """What the caller may do with the endpoint; None where not even see it."""
        if key.role == "admin":
            return Level.CAN_MANAGE
        levels = self.levels(endpoint)
        return max((levels[one] for one in (key.owner, USERS) if one in levels), default=None)

    def require(self, key: Key, endpoint: Endpoint, needed: Level) -> None:
        """Raises Refusal, which says what is missing."""
        level = self.level(key, endpoint)
        if level is None or level < needed:
            raise Refusal(
                "PERMISSION_DENIED",
                f"{key.owner.words} may not do this with endpoint {endpoint.name!r}: it needs the permission "
                f"{needed.name} on it, and has {level.name if level is not None else 'none'}",
            )

    def queriers(self, endpoint: Endpoint) -> tuple[str, ...] | None:
        """Who may query it; None for everybody."""
        if self._permissions.of(endpoint.id) is None:
            return None
        levels = self.levels(endpoint)
        if levels.get(USERS, 0) >= Level.CAN_QUERY:
            return None
        return tuple(sorted(str(one) for one, level in levels.items() if level >= Level.CAN_QUERY and one != USERS))

    def rate_limits(self, endpoint: Endpoint) -> tuple[RateLimit, ...]:
        """As they were set, with service principals by their client id."""
        return tuple(map(self._by_client_id, endpoint.options.rate_limits))

    def absent(self, endpoint: Endpoint) -> list[Principal]:
        """Users and service principals that its rate limits name and that are not there."""
        named = [
            Principal(limit.key, limit.principal)
            for limit in endpoint.options.rate_limits
            if limit.key != "endpoint" and limit.principal is not None
        ]
        return [one for one in named if not self._is_there(one)]

    def _is_there(self, named: Principal) -> bool:
        if named.kind == "service_principal":
            return self.service_principals.find(named.name) is not None
        return self.keys.knows(named)

    def _by_client_id(self, limit: RateLimit) -> RateLimit:
        if limit.key != "service_principal" or limit.principal is None:
            return limit
        found = self.service_principals.find(limit.principal)
        return limit if found is None else msgspec.structs.replace(limit, principal=found.id)

    def _creator(self, endpoint: Endpoint) -> Principal | None:
        """None for an endpoint that the server made by itself."""
        if self.service_principals.get(endpoint.creator) is not None:
            return Principal("service_principal", endpoint.creator)
        user = Principal("user", endpoint.creator)
        return user if self.keys.knows(user) else None

    def _was_deleted(self, principal: Principal) -> bool:
        if principal.kind != "service_principal":
            return False
        found = self.service_principals.get(principal.name)
        return found is None or found.deleted_ms is not None
