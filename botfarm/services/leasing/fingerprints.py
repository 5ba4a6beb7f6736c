"""The digest of a request under an Idempotency-Key: a retry under the key must ask for the same."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace

from botfarm.domain.leases import LeaseTerms, Purpose


def with_fingerprint(
    terms: LeaseTerms, operation: str, purpose: Purpose, wanted: Mapping[str, object]
) -> LeaseTerms:
    """The terms with the digest of the request, if it has a key.

    `wanted` is what the operation asks for beside the terms. How long and how urgently a request waits is
    left out, because a retry may wait otherwise. Replicas of two versions must compute the same digest, so
    its fields never change.
    """
    if terms.idempotency_key is None:
        return terms
    fields = {
        "operation": operation,
        "ttl_seconds": terms.ttl_seconds,
        "owner": terms.owner,
        "metadata": terms.metadata,
        **wanted,
        **({} if purpose is Purpose.TEST else {"purpose": purpose, "note": terms.note}),
    }
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).digest()
    return replace(terms, fingerprint=digest)
