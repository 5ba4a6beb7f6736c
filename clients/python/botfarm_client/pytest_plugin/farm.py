"""The farm of a run, opened when the first test asks for a user."""

import pytest

from botfarm_client import Botfarm
from botfarm_client.errors import BotfarmError
from botfarm_client.pytest_plugin.settings import duration, failure, setting

_FARM = pytest.StashKey[Botfarm]()


def farm_of_run(config: pytest.Config) -> Botfarm:
    """The farm of the run.

    It stays open until the run ends, because flaky ends session fixtures between two attempts.
    """
    if _FARM not in config.stash:
        config.stash[_FARM] = _open_farm(config)
        config.add_cleanup(config.stash[_FARM].close)
    return config.stash[_FARM]


def _open_farm(config: pytest.Config) -> Botfarm:
    url = setting(config, "url")
    if url is None:
        raise failure("no farm to take users from: set BOTFARM_URL (or --botfarm-url), and BOTFARM_TOKEN")
    try:
        return Botfarm(
            url,
            project=setting(config, "project"),
            env=setting(config, "env"),
            domain=setting(config, "domain"),
            wait=duration(config, "wait"),
            ttl=duration(config, "ttl"),
        )
    except BotfarmError as error:
        raise failure(str(error)) from None
