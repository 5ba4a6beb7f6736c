import asyncio
import time
from collections.abc import Awaitable, Callable
from operator import itemgetter
from typing import Annotated, TypeVar

import typer

from botfarm.cli.errors import one_line_errors
from botfarm.crypto.key_ring import KeyRingError, generate_key
from botfarm.logs import configure_logging
from botfarm.runtime.services import Services, open_services
from botfarm.services.upkeep.key_rotation import NextRing, Step, rotate_ring, without_key
from botfarm.services.upkeep.key_usage import what_is_wrong
from botfarm.services.upkeep.reencryption import Reencrypted
from botfarm.settings import Settings, load_settings
from botfarm_client.cli import CommandError
from botfarm_client.commands.shared.output import counted, note, print_json, print_table, say

Answer = TypeVar("Answer")
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object, for scripts.")]

# Seconds between two lines of progress, and users that are named at the end.
PROGRESS_INTERVAL = 2.0
NAMED_USERS = 10

keys = typer.Typer(no_args_is_help=True, help="The keys that encrypt stored credentials.")


@keys.command()
@one_line_errors()
def generate(
    key_id: Annotated[str, typer.Option("--id", help="Its name, stored beside each value.")] = "k1",
) -> None:
    """Print a new key for BOTFARM_ENCRYPTION_KEYS."""
    try:
        say(generate_key(key_id))
    except KeyRingError as error:
        raise CommandError(f"--id: {error}") from None


@keys.command()
@one_line_errors()
def status(*, as_json: AsJson = False) -> None:
    """Show the keys of the ring and the number of values under each; ends with 1 when a key is missing."""
    settings = load_settings()
    uses = asyncio.run(_with_services(settings, lambda services: services.key_usage.uses()))
    items = [{"id": use.key_id, "state": use.state.value, "values": use.values} for use in uses]
    if as_json:
        active = next((use.key_id for use in uses if use.is_active), None)
        print_json({"active": active, "keys": items})
    else:
        print_table({name: itemgetter(name) for name in ("id", "state", "values")}, items)
    if reason := what_is_wrong(uses):
        raise CommandError(reason)


@keys.command()
@one_line_errors()
def rotate(
    *,
    key_id: Annotated[
        str | None,
        typer.Option("--id", help="The key: a new one, or one of the ring. Default: the next k<N>."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print the next BOTFARM_ENCRYPTION_KEYS: with a new key at its end, or with a key moved to the front."""
    _print_ring(rotate_ring(_ring(load_settings()), key_id), as_json=as_json)


@keys.command()
@one_line_errors()
def drop(key_id: Annotated[str, typer.Argument(metavar="ID")], *, as_json: AsJson = False) -> None:
    """Print BOTFARM_ENCRYPTION_KEYS without a key; refused while stored values are under it."""
    settings = load_settings()
    dropped = without_key(_ring(settings), key_id)
    asyncio.run(_with_services(settings, lambda services: services.key_usage.require_unused(key_id)))
    _print_ring(dropped, as_json=as_json)


@keys.command()
@one_line_errors()
def reencrypt(*, as_json: AsJson = False) -> None:
    """Re-encrypt all values with the first key of the ring, while the farm is in use; may be run again."""
    done = asyncio.run(
        _with_services(load_settings(), lambda services: services.reencryption.run(_progress()))
    )
    if as_json:
        print_json(
            {
                "active": done.key_id,
                "users": done.users,
                "values": done.values,
                "left": dict(done.left),
                "missing": dict(done.missing),
                "unreadable": {str(user_id): fields for user_id, fields in done.unreadable.items()},
            }
        )
    else:
        say(
            f"Encrypted {counted(done.values, 'value')} of {counted(done.users, 'user')} anew "
            f"with {done.key_id}."
        )
    for user_id, fields in list(done.unreadable.items())[:NAMED_USERS]:
        note(f"user {user_id}: cannot be decrypted: {', '.join(fields)}")
    if problems := _problems(done):
        raise CommandError("; ".join(problems))
    for unused in done.unused:
        note(f"no value is under {unused} any more: botfarm keys drop {unused}")


def _problems(done: Reencrypted) -> list[str]:
    problems = []
    if done.missing:
        missing = ", ".join(f"{key_id} (values: {number})" for key_id, number in done.missing.items())
        problems.append(
            f"BOTFARM_ENCRYPTION_KEYS lacks {missing}: put that back, after the first, and run this again"
        )
    if done.unreadable:
        affected = counted(len(done.unreadable), "user")
        problems.append(
            f"{affected} with credentials that no key decrypts: `botfarm users update` gives new ones"
        )
    elif done.left:
        left = counted(sum(done.left.values()), "value")
        problems.append(
            f"{left} under another key, of users changed meanwhile: run `botfarm keys reencrypt` again"
        )
    return problems


def _progress() -> Callable[[Reencrypted], None]:
    said_at = time.monotonic()

    def report(done: Reencrypted) -> None:
        nonlocal said_at
        if time.monotonic() - said_at >= PROGRESS_INTERVAL:
            said_at = time.monotonic()
            note(f"{done.values} of {counted(done.to_do, 'value')} encrypted anew")

    return report


def _print_ring(ring: NextRing, *, as_json: bool) -> None:
    """Prints the value to standard output, and the next steps to standard error."""
    if as_json:
        print_json(
            {
                "encryption_keys": ring.encryption_keys,
                "id": ring.key_id,
                "step": ring.step.value,
                "next": ring.next_command,
            }
        )
    else:
        say(ring.encryption_keys)
    for line in _what_to_do(ring):
        note(line)


def _what_to_do(ring: NextRing) -> list[str]:
    roll_out = (
        "give this value to every replica of `botfarm serve`: as BOTFARM_ENCRYPTION_KEYS, or in the file "
        "botfarm_encryption_keys of BOTFARM_SECRETS_DIR"
    )
    then = f"when all of them run with it, set it here too, and: {ring.next_command}"
    match ring.step:
        case Step.ADDED:
            unused = [
                f"{each} is in the ring and does not encrypt: "
                f"`botfarm keys rotate --id {each}` moves it to the front"
                for each in ring.others[1:]
            ]
            return [
                f"{ring.key_id} is new, and last: it decrypts and does not encrypt yet",
                *unused,
                roll_out,
                then,
            ]
        case Step.MOVED:
            return [
                f"{ring.key_id} is first: it encrypts",
                roll_out,
                then,
                (
                    "session cookies of operators are signed under it from then on; "
                    "those signed under the others stay good"
                ),
            ]
        case Step.IN_PLACE:
            return [f"{ring.key_id} is first already: it encrypts. Next: {ring.next_command}"]
        case Step.DROPPED:
            return [
                f"no stored value is under {ring.key_id}; keep it as long as a backup from its time",
                roll_out,
                (
                    f"operators whose session cookie was signed under {ring.key_id} "
                    "and not renewed since sign in again"
                ),
            ]


def _ring(settings: Settings) -> str:
    return settings.encryption_keys.get_secret_value()


async def _with_services(settings: Settings, work: Callable[[Services], Awaitable[Answer]]) -> Answer:
    configure_logging("ERROR")  # the command's last line reports an outage already
    async with open_services(settings, "keys", in_background=True) as services:
        return await work(services)
