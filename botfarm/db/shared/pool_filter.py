"""The condition that selects the rows of one pool, and its parameters."""

from botfarm.domain.pools import Pool

OF_POOL = "{0}.project_id = :project_id AND {0}.env = :env AND {0}.domain = :domain"
"""To be formatted with the alias of a table. Its parameters come from `pool_parameters`."""


def pool_parameters(pool: Pool) -> dict[str, object]:
    return {"project_id": pool.project_id, "env": pool.env, "domain": pool.domain}
