"""Options and arguments that commands share."""

from collections.abc import Callable
from typing import Annotated
from uuid import UUID

import typer

from botfarm_client.connection.api_calls import DEFAULT_URL as DEFAULT_URL  # noqa: PLC0414  an option's default
from botfarm_client.shared.durations import TimeFormatError, parse_duration, parse_moment

DEFAULT_LIMIT = 100


Url = Annotated[str, typer.Option("--url", envvar="BOTFARM_URL", metavar="URL", help="Where the farm is.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the API's JSON.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="Print at most so many.")]
All = Annotated[bool, typer.Option("--all", help="Print all of them.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

LeaseArgument = Annotated[UUID, typer.Argument(metavar="LEASE_ID")]
ProjectArgument = Annotated[str, typer.Argument(metavar="PROJECT", help="Its name or id.")]
UserArgument = Annotated[str, typer.Argument(metavar="USER", help="The id, or the login if only one has it.")]

_PROJECT = typer.Option("--project", metavar="PROJECT", help="Its name or id.")
ProjectOption = Annotated[str, _PROJECT]
MaybeProject = Annotated[str | None, _PROJECT]
_ENV = typer.Option("--env", metavar="ENV", help="One of the project's.")
EnvOption = Annotated[str, _ENV]
MaybeEnv = Annotated[str | None, _ENV]
# For commands that acquire a lease: the same variables as the SDK reads.
PoolProject = Annotated[
    str, typer.Option("--project", envvar="BOTFARM_PROJECT", metavar="PROJECT", help="Its name or id.")
]
PoolEnv = Annotated[
    str, typer.Option("--env", envvar="BOTFARM_ENV", metavar="ENV", help="One of the project's.")
]
PoolDomain = Annotated[
    str | None, typer.Option("--domain", metavar="DOMAIN", help="Else the first of the project's.")
]
MaybeDomain = Annotated[str | None, typer.Option("--domain", metavar="DOMAIN", help="One of the project's.")]

LabelOptions = Annotated[
    list[str], typer.Option("--label", metavar="KEY=VALUE", help="May be given several times.")
]

WantedLabelOptions = Annotated[
    list[str],
    typer.Option(
        "--label",
        metavar="KEY=VALUE",
        help="May be given several times; two values of one key: one of them; '!KEY': no such label.",
    ),
]
OneUser = Annotated[
    str | None,
    typer.Option("--user", metavar="LOGIN", help="This user and no other, whatever its domain."),
]
Count = Annotated[int, typer.Option("--count", min=1, max=100, help="All of them or none.")]
Owner = Annotated[str | None, typer.Option("--owner", help="Who you are, for those who look.")]
MetadataOptions = Annotated[
    list[str], typer.Option("--metadata", metavar="KEY=VALUE", help="Kept with the lease. Repeatable.")
]


def duration_option(name: str, description: str) -> typer.models.OptionInfo:
    return _parsed_option(name, parse_duration, metavar="DURATION", description=description)


def moment_option(name: str, description: str) -> typer.models.OptionInfo:
    return _parsed_option(name, parse_moment, metavar="WHEN", description=description)


def _parsed_option(
    name: str, parse: Callable[[str], int | str], *, metavar: str, description: str
) -> typer.models.OptionInfo:
    def parser(text: str) -> int | str:
        try:
            return parse(text)
        except TimeFormatError as error:
            raise typer.BadParameter(str(error)) from None

    option: typer.models.OptionInfo = typer.Option(name, parser=parser, metavar=metavar, help=description)
    return option
