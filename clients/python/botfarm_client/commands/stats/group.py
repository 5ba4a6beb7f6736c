import typer

from botfarm_client.commands.stats.holders_command import holders
from botfarm_client.commands.stats.pools_command import pools
from botfarm_client.commands.stats.users_command import users

stats = typer.Typer(no_args_is_help=True, help="How pools and users were used, and who used them.")

stats.command()(pools)
stats.command()(users)
stats.command()(holders)
