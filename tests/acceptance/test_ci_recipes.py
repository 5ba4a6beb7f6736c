"""docs/ci.md, step by step: each recipe's jobs run side by side, in their CI's shells, on a real farm."""

import json
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.ci_recipes import Job, Outcome, github_jobs, gitlab_jobs, jenkins_jobs, run
from support.farm import PASSWORD
from support.issuer import AUDIENCE, GITHUB, GITLAB, Issuer
from support.live_farm import LiveFarm, live_farm
from support.processes import BOTFARM
from support.stub_server import stub_server

JOBS: dict[str, Callable[[], Iterator[Job]]] = {
    "github": github_jobs,
    "gitlab": gitlab_jobs,
    "jenkins": jenkins_jobs,
}
MARKS = {"github": "GITHUB_ACTIONS", "gitlab": "GITLAB_CI", "jenkins": "JENKINS_URL"}
STEPWISE = [next(job for job in jobs() if job.name.startswith("several")) for jobs in JOBS.values()]
# Stand-ins for what no recipe contains: the installed packages, and the suite. Each suite holds a user until
# the suite of the job beside it has one, too.
PIP = '#!/bin/sh\n[ "$1 $2" = "install botfarm-client" ]\n'
NPX = f"""#!/bin/sh -e
[ "$1 $2" = "playwright test" ]
[ "$BOTFARM_PASSWORD" = "{PASSWORD}" ]
touch "$MEETING/$BOTFARM_LOGIN"
case "$FATE" in
    fails) exit 9 ;;
    loses) BOTFARM_TOKEN=$MANAGER botfarm leases force-release "$BOTFARM_LEASE_ID" --reason 'to see' ;;
esac
until [ "$(ls "$MEETING" | wc -l)" -ge "$GUESTS" ]; do sleep 0.05; done
"""
SUITE = """
import os, time
from pathlib import Path

def test_signs_in(botfarm_user):
    meeting = Path(os.environ["MEETING"])
    (meeting / botfarm_user.login).touch()
    while len(list(meeting.iterdir())) < int(os.environ["GUESTS"]):
        time.sleep(0.05)
"""


ISSUER = Issuer()
AUDIENCE_OF = {"BOTFARM_AUDIENCE": AUDIENCE}


@pytest.fixture(scope="module")
def farm(postgres_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveFarm]:
    """It knows the keys of the CIs, and none of them has a token in its settings but Jenkins."""
    folder = tmp_path_factory.mktemp("keys")
    (folder / "ci.test.json").write_text(json.dumps(ISSUER.jwks()))
    settings = {"BOTFARM_PUBLIC_URL": AUDIENCE, "BOTFARM_OIDC_KEYS_DIR": str(folder)}
    with live_farm(postgres_url, template, **settings) as opened:
        yield opened


@contextmanager
def identities(farm: LiveFarm, project: str, ci: str) -> Iterator[Callable[[int], dict[str, str]]]:
    """Gives the variables by which a job of this number shows who it is."""
    if ci == "jenkins":
        yield lambda _: {"BOTFARM_TOKEN": farm.environment["BOTFARM_TOKEN"]}
        return
    of_ci = GITHUB if ci == "github" else GITLAB
    farm.trust(project, ISSUER.url, {"repository_id" if ci == "github" else "project_id": project})
    claims = {**of_ci, "repository_id": project, "project_id": project}
    if ci == "gitlab":
        claims.pop("repository_id")
        yield lambda number: {
            "BOTFARM_ID_TOKEN": ISSUER.token({**claims, "job_id": str(number)}),
            **AUDIENCE_OF,
        }
        return
    claims.pop("project_id")
    with stub_server() as github:
        github.answer = lambda _: (200, {"value": ISSUER.token(claims)})
        address = {
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{github.url}/token?v=1",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "x",
        }
        yield lambda _: {**address, **AUDIENCE_OF}


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    folder = tmp_path / "programs"
    folder.mkdir()
    for name, text in (("pip", PIP), ("npx", NPX)):
        (folder / name).write_text(text)
        (folder / name).chmod(stat.S_IRWXU)
    return folder


def run_jobs(
    farm: LiveFarm, programs: Path, project: str, jobs: list[Job], *, fate: str = ""
) -> list[Outcome]:
    meeting = programs.parent / "meeting"
    meeting.mkdir()
    ci = next(name for name, mark in MARKS.items() if mark in jobs[0].variables)
    variables = {
        "BOTFARM_URL": farm.url,
        "MANAGER": farm.environment["BOTFARM_TOKEN"],
        "BOTFARM_PROJECT": project,
        "PATH": os.pathsep.join((str(programs), str(Path(BOTFARM).parent), os.environ["PATH"])),
        "MEETING": str(meeting),
        "GUESTS": str(len(jobs)),
        "FATE": fate,
        # Other plugins of this environment are slow to load.
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_ADDOPTS": "-p xdist -p botfarm_client.pytest_plugin -p no:cacheprovider",
        "PYTEST_XDIST_AUTO_NUM_WORKERS": "1",
    }

    def run_job(number: int) -> Outcome:
        folder = programs.parent / f"job-{number}"
        (folder / "e2e").mkdir(parents=True)
        (folder / "e2e/test_shop.py").write_text(SUITE)
        outcome = run(jobs[number], folder, {**variables, **identity(number)})
        print(outcome.log)  # noqa: T201  shown when the test fails
        assert not [path for path in folder.glob("*.env") if PASSWORD in path.read_text()], (
            "it is left behind"
        )
        return outcome

    with identities(farm, project, ci) as identity, ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(run_job, range(len(jobs))))


def without_commands(log: str) -> str:
    """GitHub's runner shows nobody what it is to mask."""
    return "\n".join(line for line in log.splitlines() if not line.startswith("::add-mask::"))


@pytest.mark.parametrize("ci", JOBS)
def test_the_jobs_of_a_recipe_have_a_user_each_and_give_it_back(
    farm: LiveFarm, programs: Path, ci: str
) -> None:
    by_name: dict[str, list[Job]] = {}
    for job in JOBS[ci]():
        by_name.setdefault(job.name, []).append(job)
    jobs = [job for cells in by_name.values() for job in cells]
    assert all(len(cells) > 1 for cells in by_name.values()), "each shows how jobs run side by side"
    project = farm.project(users=len(jobs))
    outcomes = run_jobs(farm, programs, project, jobs)
    assert [code for outcome in outcomes for code in outcome.codes if code] == []
    leases = farm.leases(project)
    assert [lease["ended_by"] for lease in leases] == ["released"] * len(jobs)
    assert len({lease["users"][0]["id"] for lease in leases}) == len(jobs)
    assert {lease["metadata"]["ci"] for lease in leases} == {ci}
    assert all(PASSWORD not in without_commands(outcome.log) for outcome in outcomes)


@pytest.mark.parametrize("job", STEPWISE, ids=JOBS)
def test_a_job_that_fails_gives_its_user_back(farm: LiveFarm, programs: Path, job: Job) -> None:
    project = farm.project()
    (outcome,) = run_jobs(farm, programs, project, [job], fate="fails")
    assert 9 in outcome.codes
    assert outcome.codes[-1] == 0
    (lease,) = farm.leases(project)
    assert lease["ended_by"] == "released"


@pytest.mark.parametrize("job", STEPWISE, ids=JOBS)
def test_a_job_whose_lease_ended_under_it_fails(farm: LiveFarm, programs: Path, job: Job) -> None:
    (outcome,) = run_jobs(farm, programs, farm.project(), [job], fate="loses")
    assert 6 in outcome.codes


@pytest.mark.parametrize("job", STEPWISE, ids=JOBS)
def test_a_job_without_a_user_fails_and_releases_nothing(
    farm: LiveFarm, programs: Path, tmp_path: Path, job: Job
) -> None:
    no_such_pool = Job(job.name, job.steps, {**job.variables, "BOTFARM_ENV": "prod"})
    (outcome,) = run_jobs(farm, programs, farm.project(), [no_such_pool])
    assert [code for code in outcome.codes if code] == [4]
    assert not list((tmp_path / "meeting").iterdir()), "no test began"
