"""What is asked for in a request for a lease, and the terms that it leads to."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from uuid import UUID

from botfarm.db.leasing.acquire_user_queries import LeaseTerms
from botfarm.domain.access import Principal
from botfarm.domain.pools import Domain, Env


@dataclass(frozen=True, slots=True)
class PoolRequest:
    project: UUID | str
    """Its id or its name."""
    env: Env
    domain: Domain
    labels: Mapping[str, str] = field(default_factory=dict)
    count: int = 1
    wait_seconds: float = 0
    priority: int = 0

    def asked_for(self, project_id: UUID) -> dict[str, object]:
        """What a retry must ask for again. For how long and how urgently is how to ask: a retry may do so otherwise."""
        what = {**asdict(self), "project": project_id}
        del what["wait_seconds"], what["priority"]
        return what


@dataclass(frozen=True, slots=True)
class RequestedTerms:
    ttl_seconds: int | None = None
    owner: str | None = None
    metadata: Mapping[str, object] = field(default_factory=dict)
    idempotency_key: str | None = None


def lease_terms(
    principal: Principal,
    requested: RequestedTerms,
    *,
    operation: str,
    asked_for: Callable[[], Mapping[str, object]],
) -> LeaseTerms:
    """What is asked for is looked at only where a key needs its fingerprint."""
    return LeaseTerms(
        principal=principal.name,
        ttl_seconds=requested.ttl_seconds,
        owner=requested.owner,
        metadata=requested.metadata,
        idempotency_key=requested.idempotency_key,
        fingerprint=_fingerprint(requested, operation, asked_for()) if requested.idempotency_key else None,
        address=principal.address,
        request_id=principal.request_id,
    )


def _fingerprint(requested: RequestedTerms, operation: str, asked_for: Mapping[str, object]) -> bytes:
    what = {
        "operation": operation,
        "ttl_seconds": requested.ttl_seconds,
        "owner": requested.owner,
        "metadata": requested.metadata,
        **asked_for,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).digest()
