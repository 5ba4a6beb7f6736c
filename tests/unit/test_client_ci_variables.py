import json

import pytest

from botfarm_client.leasing.ci_variables import MAX_OWNER, as_owner, this_holder, this_job

COMMIT = "c0ffee" * 6 + "c0ff"
VARIABLES = {
    "github": {
        "GITHUB_ACTIONS": "true",
        "GITHUB_SERVER_URL": "https://git.test",
        "GITHUB_REPOSITORY": "acme/shop",
        "GITHUB_RUN_ID": "987654",
        "GITHUB_RUN_NUMBER": "4711",
        "GITHUB_RUN_ATTEMPT": "2",
        "GITHUB_JOB": "e2e",
        "GITHUB_HEAD_REF": "cheaper-shoes",
        "GITHUB_REF_NAME": "12/merge",
        "GITHUB_SHA": COMMIT,
    },
    "gitlab": {
        "GITLAB_CI": "true",
        "CI_PROJECT_PATH": "acme/shop",
        "CI_JOB_NAME": "e2e 2/4",
        "CI_PIPELINE_IID": "4711",
        "CI_JOB_URL": "https://git.test/acme/shop/-/jobs/99",
        "CI_COMMIT_REF_NAME": "cheaper-shoes",
        "CI_COMMIT_SHA": COMMIT,
    },
    "jenkins": {
        "JENKINS_URL": "https://ci.test/",
        "JOB_NAME": "acme/shop",
        "STAGE_NAME": "e2e",
        "BUILD_NUMBER": "4711",
        "BUILD_URL": "https://ci.test/job/shop/4711/",
        "GIT_BRANCH": "cheaper-shoes",
        "GIT_COMMIT": COMMIT,
    },
    "teamcity": {
        "TEAMCITY_VERSION": "2025.11",
        "TEAMCITY_PROJECT_NAME": "acme/shop",
        "TEAMCITY_BUILDCONF_NAME": "e2e",
        "BUILD_NUMBER": "4711",
        "BUILD_URL": "https://ci.test/build/99",
        "BUILD_VCS_NUMBER": COMMIT,
    },
    "buildkite": {
        "BUILDKITE": "true",
        "BUILDKITE_PIPELINE_SLUG": "acme/shop",
        "BUILDKITE_LABEL": "e2e",
        "BUILDKITE_BUILD_NUMBER": "4711",
        "BUILDKITE_BUILD_URL": "https://ci.test/builds/4711",
        "BUILDKITE_JOB_ID": "0190",
        "BUILDKITE_BRANCH": "cheaper-shoes",
        "BUILDKITE_COMMIT": COMMIT,
    },
}
PAGES = {
    "github": "https://git.test/acme/shop/actions/runs/987654/attempts/2",
    "gitlab": "https://git.test/acme/shop/-/jobs/99",
    "jenkins": "https://ci.test/job/shop/4711/",
    "teamcity": "https://ci.test/build/99",
    "buildkite": "https://ci.test/builds/4711#0190",
}


@pytest.mark.parametrize("ci", VARIABLES)
def test_a_lease_says_which_job_holds_it(ci: str) -> None:
    holder = this_holder({"CI": "true", **VARIABLES[ci]})
    assert holder.owner in {f"{ci} acme/shop e2e #4711", f"{ci} acme/shop e2e 2/4 #4711"}
    assert holder.metadata["job_url"] == PAGES[ci]
    assert holder.metadata["commit"] == COMMIT
    assert holder.metadata.get("branch", "") == ("" if ci == "teamcity" else "cheaper-shoes")


@pytest.mark.parametrize("ci", VARIABLES)
def test_variables_that_are_missing_or_huge_do_no_harm(ci: str) -> None:
    mark = next(iter(VARIABLES[ci]))
    bare = this_job({mark: "x"})
    assert bare is not None
    assert bare.metadata == {"ci": ci}
    assert bare.owner == ci
    huge = this_job(dict.fromkeys(VARIABLES[ci], "長い\n" * 5000))
    assert huge is not None
    assert MAX_OWNER - 4 < len(huge.owner.encode()) <= MAX_OWNER
    assert huge.owner.isprintable()
    assert len(json.dumps(huge.metadata, ensure_ascii=False).encode()) < 4_096


def test_outside_of_a_ci_a_lease_says_which_person_holds_it() -> None:
    holder = this_holder({"CI": "true"})
    name, at, host = holder.owner.partition("@")
    assert name
    assert at
    assert host
    assert not holder.metadata


def test_a_long_name_keeps_its_end() -> None:
    name = f"{'tests/' * 60}test_cart.py::test_pays[visa]"
    assert as_owner(name).endswith("test_cart.py::test_pays[visa]")
    assert len(as_owner(name).encode()) == MAX_OWNER
    assert as_owner("short") == "short"
