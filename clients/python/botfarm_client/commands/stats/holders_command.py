"""Who held users for longest."""

from enum import StrEnum
from typing import Annotated

import typer

from botfarm_client.commands.shared.farm_access import open_farm
from botfarm_client.commands.shared.lookups import project_id_of
from botfarm_client.commands.shared.options import (
    DEFAULT_LIMIT,
    DEFAULT_URL,
    AsJson,
    Limit,
    MaybeProject,
    Url,
    moment_option,
)
from botfarm_client.commands.shared.output import Columns, print_json, print_table


class By(StrEnum):
    PRINCIPAL = "principal"
    OWNER = "owner"
    JOB = "job"


def holders(
    *,
    project: MaybeProject = None,
    since: Annotated[
        str | None, moment_option("--since", "A time, or 3d for three days ago. Default: 14d.")
    ] = None,
    by: Annotated[
        By, typer.Option("--by", help="job: the pipeline and job of the CI, whatever the run.")
    ] = By.PRINCIPAL,
    limit: Limit = DEFAULT_LIMIT,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show who held users for longest, for tests and by hand."""
    with open_farm(url) as farm:
        items = farm.items(
            "/stats/holders", project_id=project_id_of(farm, project), since=since, by=by, limit=limit
        )
    if as_json:
        print_json({"items": items})
        return
    columns: Columns = {
        by.value: lambda holder: holder["holder"],
        "account hours": lambda holder: f"{holder['account_hours']:.1f}",
        "leases": lambda holder: holder["leases"],
        "expired": lambda holder: holder["expired_leases"],
    }
    print_table(columns, items)
