"""The server's own commands, for the client's `botfarm --help`, which imports none of them."""

from botfarm_client.commands.command_table import CommandEntry, CommandTable

COMMANDS: CommandTable = {
    "after-restore": CommandEntry(
        "botfarm.cli.after_restore:after_restore",
        "Make a database restored from a backup safe: migrate it, end its leases, let all users rest.",
    ),
    "config": CommandEntry(
        "botfarm.cli.config:config",
        "Show the settings in force, with secrets masked, and which of them were set.",
    ),
    "demo": CommandEntry(
        "botfarm.cli.demo:demo",
        "Add demo data: two projects, some 60 users; adds only what is missing.",
    ),
    "dev": CommandEntry(
        "botfarm.cli.dev:dev",
        "Run everything here: PostgreSQL, migrations, demo data, API and worker; Ctrl-C ends it.",
    ),
    "keys": CommandEntry(
        "botfarm.cli.keys:keys",
        "The keys that encrypt stored credentials.",
    ),
    "migrate": CommandEntry(
        "botfarm.cli.migrate:migrate",
        "Bring the database to this version's schema; harmless when repeated, and while the farm is in use.",
    ),
    "operators": CommandEntry(
        "botfarm.cli.operators:operators",
        "The people who sign in to run the farm.",
    ),
    "serve": CommandEntry(
        "botfarm.cli.serve:serve",
        "Serve the API: one process, to be scaled by replicas.",
    ),
    "worker": CommandEntry(
        "botfarm.cli.worker:worker",
        "Run the scheduler: reaps expired locks, refreshes gauges, prunes history.",
    ),
}
