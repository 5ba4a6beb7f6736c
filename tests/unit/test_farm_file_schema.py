"""The schema of a farm file that editors and the client read, beside the bodies of the API that it is made of.

After a change of these bodies run

    BOTFARM_TEST_RENEW=1 .venv/bin/python -m pytest -n 0 tests/unit/test_farm_file_schema.py

and read the difference.
"""

import json
import os
from pathlib import Path

from botfarm.web.api.configuration.farm_file_schema import farm_file_schema

COMMITTED = (
    Path(__file__).parents[2] / "clients/python/botfarm_client/commands/configuration/farm.schema.json"
)


def test_the_committed_schema_is_that_of_the_bodies() -> None:
    written = json.dumps(farm_file_schema(), indent=2) + "\n"
    if os.environ.get("BOTFARM_TEST_RENEW"):
        COMMITTED.write_text(written)
    assert COMMITTED.read_text() == written
