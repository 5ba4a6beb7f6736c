import typer

from botfarm_client.commands.chores.rotation import confirm, rotate
from botfarm_client.commands.chores.run import run

chores = typer.Typer(no_args_is_help=True, help="What keepers do: clean users, check and renew them.")

# Options after the first argument belong to that argument: the program.
chores.command(context_settings={"allow_interspersed_args": False})(run)
chores.command()(rotate)
chores.command()(confirm)
