"""The rows of `lease_users` for leases that were stored without them, before revision 0008."""

from sqlalchemy import Connection, text

PAGE = 5_000

FILL_ALL = """
    INSERT INTO lease_users (user_id, fence) SELECT unnest(user_ids), fence FROM leases ON CONFLICT DO NOTHING"""

# In the order of fences, so that a page is found by an index and each lease is read once.
FILL_PAGE = text("""
    WITH page AS MATERIALIZED (
        SELECT fence, user_ids FROM leases WHERE fence > :after ORDER BY fence LIMIT :limit
    ),
    filled AS (
        INSERT INTO lease_users (user_id, fence) SELECT unnest(user_ids), fence FROM page ON CONFLICT DO NOTHING
    )
    SELECT max(fence) FROM page""")


def fill_lease_users(connection: Connection) -> None:
    """Inserts the missing rows, page by page, outside of a transaction."""
    after: int | None = 0
    while after is not None:
        after = connection.scalar(FILL_PAGE, {"after": after, "limit": PAGE})
