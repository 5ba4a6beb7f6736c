from typing import Any

from botfarm_client.commands.shared.farm_access import open_farm
from botfarm_client.commands.shared.options import DEFAULT_URL, AsJson, Url
from botfarm_client.commands.shared.output import Columns, print_json, print_table
from botfarm_client.shared.durations import format_duration


def pools(*, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Show how many users each pool has: free, leased, dirty, quarantined and so on."""
    with open_farm(url) as farm:
        items = farm.items("/pools")
    if as_json:
        print_json({"items": items})
    else:
        print_table(_COLUMNS, items)


def _duration(seconds: Any) -> str:
    return "" if seconds is None else format_duration(seconds)


_COLUMNS: Columns = {
    "project": lambda pool: pool["project"],
    "env": lambda pool: pool["env"],
    "domain": lambda pool: pool["domain"],
    "total": lambda pool: pool["total"],
    "free": lambda pool: pool["free"],
    "leased": lambda pool: pool["leased"],
    "resting": lambda pool: pool["resting"],
    "dirty": lambda pool: pool["dirty"],
    "chore": lambda pool: pool["chore"],
    "held": lambda pool: pool["held"],
    "quarantined": lambda pool: pool["quarantined"],
    "waiting": lambda pool: pool["waiting"],
    "oldest wait": lambda pool: _duration(pool["oldest_wait"]),
    "next free": lambda pool: _duration(pool["next_free_in"]),
}
