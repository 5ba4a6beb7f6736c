"""`botfarm capacity` on a farm with a fortnight of office hours behind it."""

import asyncio
import json
import re
from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from benchmarks.fortnight import fortnight, write
from support.live_farm import farm_at, serving
from support.postgres import fresh_database
from support.processes import run_botfarm

ADVICE = re.compile(
    r"stage/regular: 40 in service, (\d+) would keep 95 % of waits under 30 s \(worst day \d+ [A-Z][a-z]+\)"
)


async def remember_a_fortnight(database_url: str, project_id: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        users = await connection.fetch(
            "SELECT id FROM users WHERE project_id = $1 ORDER BY id", UUID(project_id)
        )
        await write(
            connection,
            fortnight(users=len(users), until=datetime.now(UTC)),
            project_id=UUID(project_id),
            env="stage",
            domain="regular",
            user_ids=[user["id"] for user in users],
        )
    finally:
        await connection.close()


def test_a_manager_asks_how_many_accounts_to_order(postgres_url: str, template: str) -> None:
    with (
        fresh_database(postgres_url, template=template) as database_url,
        serving(database_url) as (_, url),
        farm_at(url) as live,
    ):
        project = live.project(users=40)
        asyncio.run(remember_a_fortnight(database_url, live.project_id(project)))
        command = ("capacity", "--project", project, "--goal", "30s", "--quantile", "0.95", "--days", "14")
        ran = run_botfarm(*command, environment=live.environment)
        assert ran.returncode == 0, ran.stderr
        sentence, *_ = ran.stdout.splitlines()
        needed = ADVICE.fullmatch(sentence)
        assert needed, ran.stdout
        assert 48 <= int(needed[1]) <= 52
        as_json = run_botfarm(*command, "--json", environment=live.environment)
        assert json.loads(as_json.stdout)["items"][0]["needed"] == int(needed[1])
        refused = run_botfarm(
            "capacity", "--project", project, "--quantile", "1", environment=live.environment
        )
        assert refused.returncode == 2
        assert "more than 0 and less than 1" in " ".join(refused.stderr.split())
