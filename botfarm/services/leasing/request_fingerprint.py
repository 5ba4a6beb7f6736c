"""The digest of a request: a retry under an idempotency key must ask for the same as the first request."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace

from botfarm.domain.leases import LeaseTerms


def with_fingerprint(terms: LeaseTerms, operation: str, wanted: Mapping[str, object]) -> LeaseTerms:
    """The terms with the digest of the request, if it has a key.

    `wanted` is what the operation asks for beside the terms. How long and how urgently a request waits is left out, because a
    retry may wait otherwise. Replicas of two versions must compute the same digest, so its fields never change.
    """
    if terms.idempotency_key is None:
        return terms
    fields = {
        "operation": operation,
        "ttl_seconds": terms.ttl_seconds,
        "owner": terms.owner,
        "metadata": terms.metadata,
        **wanted,
    }
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).digest()
    return replace(terms, fingerprint=digest)
