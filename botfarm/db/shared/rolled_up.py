"""Up to when leases and refused requests are rolled up, for the statements that prune them."""

ROLLED_UP_TO = "(SELECT coalesce(max(hour), '-infinity') FROM rollup_hours WHERE carried IS NOT NULL)"
"""Whatever ended before this moment is in rollups that nothing will change."""
