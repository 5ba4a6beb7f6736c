"""Which users of a pool a request wants, in SQL: by their labels, or one of them by its id.

Two columns have what is asked of labels. `labels` has the keys for which one value will do, as in the previous
version. `choices` is null, or has the others: a list of values, or null for a label that must be absent.
"""

import json
from uuid import UUID

from botfarm.domain.wanted_labels import WantedLabels, choices, plain


def has_labels(labels: str, chosen: str) -> str:
    """The condition on a user `u`. Without choices it is a containment, and the rest is not evaluated."""
    return f"""u.labels @> {labels} AND ({chosen} IS NULL OR NOT EXISTS (
              SELECT FROM jsonb_each({chosen}) AS choice
              WHERE CASE WHEN choice.value = 'null' THEN u.labels ? choice.key
                         ELSE (choice.value @> (u.labels -> choice.key)) IS NOT TRUE END))"""


HAS_LABELS = has_labels("CAST(:labels AS jsonb)", "CAST(:choices AS jsonb)")
"""Its parameters come from `label_parameters`."""


def label_parameters(wanted: WantedLabels) -> dict[str, str | None]:
    """As JSON."""
    chosen = choices(wanted)
    return {"labels": json.dumps(plain(wanted)), "choices": json.dumps(chosen) if chosen else None}


def all_labels(row: str) -> str:
    """Both columns in one."""
    return f"{row}.labels || coalesce({row}.choices, '{{}}')"


def user_range(user_id: UUID) -> dict[str, UUID]:
    """The ids that a walk through the pool visits when it looks for this user alone."""
    before = UUID(int=user_id.int - 1)
    return {"first": before, "hand": before, "last": user_id}
