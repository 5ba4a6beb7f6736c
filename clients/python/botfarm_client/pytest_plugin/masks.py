"""Masks the secrets of a lease in the log of a GitHub Actions job."""

from contextlib import nullcontext

import pytest

from botfarm_client import Lease
from botfarm_client.leasing.lease_state import user_documents
from botfarm_client.masks.log_masks import in_github_actions, write_masks

_KNOWN: "pytest.StashKey[set[str]]" = pytest.StashKey()


def mask(lease: Lease, config: pytest.Config) -> None:
    """Writes to the run's original standard error, which workers of pytest-xdist on this machine inherit."""
    if not in_github_actions():
        return
    capturing = config.pluginmanager.getplugin("capturemanager")
    with capturing.global_and_fixture_disabled() if capturing else nullcontext():
        write_masks(user_documents(lease.users), known=config.stash.setdefault(_KNOWN, set()))
