"""Who is asking: keys and access tokens by their digest, as the last snapshot has them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha256
from time import time

from headrace.gateway.errors import ApiError
from headrace.gateway.snapshot import KeyView
from headrace.policy.endpoint import Band

BANDS: tuple[Band, ...] = ("priority", "default", "flex")

ROLES_THAT_QUERY = ("admin", "query")

CUT_OFF_GRACE_S = 3600.0
"""How long keys are honoured without a controller that could have revoked them."""


class Keys:
    """Keys and access tokens of one snapshot."""

    def __init__(self, keys: Iterable[KeyView] = ()) -> None:
        self._by_digest = {key.digest: key for key in keys}

    def authenticate(self, authorization: bytes | None) -> KeyView:
        """The key of an ``Authorization`` header. Raises ApiError 401 or 403."""
        if not authorization:
            raise ApiError(401, "no key: send 'Authorization: Bearer <key>'", code="missing_api_key")
        if authorization[:7].lower() != b"bearer " or not (key := authorization[7:].strip()):
            raise ApiError(401, "the Authorization header must be 'Bearer <key>'", code="missing_api_key")
        known = self._by_digest.get(sha256(key).hexdigest())
        if known is None:
            raise ApiError(401, "this key is not known here, or it has been revoked")
        if known.expires_ms is not None and known.expires_ms <= time() * 1000:
            at = f"{datetime.fromtimestamp(known.expires_ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
            raise ApiError(401, f"this token expired at {at}; ask for another at /oidc/v1/token", code="token_expired")
        if known.role not in ROLES_THAT_QUERY:
            raise ApiError(403, f"a key with the role {known.role!r} may not query endpoints")
        return known


def band_of(service_tier: str | None, key: KeyView) -> Band:
    """The band of the queue that a request joins. Raises ApiError 403 where the key does not carry the tier.

    Without a tier (or with ``auto``) it is ``default``, or the key's best where it has no ``default``.
    """
    if service_tier is None or service_tier == "auto":
        return "default" if "default" in key.tiers else next((band for band in BANDS if band in key.tiers), "default")
    for band in BANDS:
        if band == service_tier and band in key.tiers:
            return band
    raise ApiError(
        403,
        f"this key may not use the service tier {service_tier!r}; it may use: {', '.join(key.tiers) or 'none'}",
        code="service_tier_not_allowed",
        param="service_tier",
    )


def not_permitted(key: KeyView, endpoint: str) -> ApiError:
    """For a caller to whom the endpoint's permissions do not give enough, be it that it may view it or not even that:
    as Databricks does, which hides no names."""
    kind = key.principal_kind.replace("_", " ")
    return ApiError(
        403,
        f"{kind} {key.principal!r} may not query endpoint {endpoint!r}: that needs the permission CAN_QUERY on it",
        param="model",
    )
