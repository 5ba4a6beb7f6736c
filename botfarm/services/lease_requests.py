"""What is asked for in a request for a lease, and the terms that it leads to."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from botfarm.access import Principal
from botfarm.db.acquire_queries import LeaseTerms
from botfarm.domain import Domain, Env


@dataclass(frozen=True, slots=True)
class PoolRequest:
    project: UUID | str
    """Its id or its name."""
    env: Env
    domain: Domain
    labels: Mapping[str, str] = field(default_factory=dict)
    count: int = 1
    wait_seconds: float = 0


@dataclass(frozen=True, slots=True)
class RequestedTerms:
    ttl_seconds: int | None = None
    owner: str | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    idempotency_key: str | None = None


def lease_terms(
    principal: Principal, requested: RequestedTerms, *, operation: str, asked_for: Mapping[str, object]
) -> LeaseTerms:
    what = {
        "operation": operation,
        "ttl_seconds": requested.ttl_seconds,
        "owner": requested.owner,
        "metadata": requested.metadata,
        **asked_for,
    }
    fingerprint = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).digest()
    return LeaseTerms(
        principal=principal.name,
        ttl_seconds=requested.ttl_seconds,
        owner=requested.owner,
        metadata=requested.metadata,
        idempotency_key=requested.idempotency_key,
        fingerprint=fingerprint if requested.idempotency_key else None,
        address=principal.address,
        request_id=principal.request_id,
    )
