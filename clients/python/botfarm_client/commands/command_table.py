"""The commands that speak to a farm over HTTP: name, line of help, and where each one is.

`botfarm --help` prints this table without importing a command.
"""

from collections.abc import Mapping
from typing import NamedTuple


class CommandEntry(NamedTuple):
    target: str
    """`module:attribute`, of a function or a `typer.Typer`. It is imported when the command is used."""
    help: str
    """The first line of the command's own help, word for word."""
    takes_program: bool = False
    """Whether options after the first argument belong to that argument, which is a program."""
    usage_exit_code: int = 2
    """After wrong usage. Of `plan` 2 means something else."""


CommandTable = Mapping[str, CommandEntry]

COMMANDS: CommandTable = {
    "apply": CommandEntry(
        "botfarm_client.commands.configuration.commands:apply",
        "Make the farm as a farm file says, all of it or nothing.",
    ),
    "audit": CommandEntry(
        "botfarm_client.commands.audit:audit",
        "Show who did what, the newest first; all filters must match.",
    ),
    "capacity": CommandEntry(
        "botfarm_client.commands.capacity:capacity",
        "Say how many users each pool needs, by a replay of what was asked of it.",
    ),
    "chores": CommandEntry(
        "botfarm_client.commands.chores.group:chores",
        "What keepers do: clean users, check and renew them.",
    ),
    "exec": CommandEntry(
        "botfarm_client.commands.exec.run:run_under_lease",
        "Run a command that has users while it runs. Ends with its exit code, or 75 if the users are lost.",
        takes_program=True,
    ),
    "export": CommandEntry(
        "botfarm_client.commands.configuration.export:export",
        "Print the farm as a file for `botfarm plan` and `apply`, without a secret.",
    ),
    "leases": CommandEntry(
        "botfarm_client.commands.leases.group:leases",
        "Who holds which users, and until when.",
    ),
    "plan": CommandEntry(
        "botfarm_client.commands.configuration.commands:plan",
        "Say what an apply of a farm file would change.",
        usage_exit_code=1,
    ),
    "pools": CommandEntry(
        "botfarm_client.commands.pools:pools",
        "Show how many users each pool has: free, leased, dirty, quarantined and so on.",
    ),
    "projects": CommandEntry(
        "botfarm_client.commands.projects:projects",
        "The systems under test, their envs and domains, and how long their users may be held.",
    ),
    "stats": CommandEntry(
        "botfarm_client.commands.stats.group:stats",
        "How pools and users were used, and who used them.",
    ),
    "tokens": CommandEntry(
        "botfarm_client.commands.tokens.group:tokens",
        "What machines sign in with, and what each may do.",
    ),
    "users": CommandEntry(
        "botfarm_client.commands.users.group:users",
        "The test accounts of the farm.",
    ),
}
