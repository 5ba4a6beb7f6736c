"""Which CI job this process is part of, from the variables that its CI sets."""

import getpass
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

# Bytes of UTF-8, because the farm limits bytes. A longer text keeps its end, which says more:
# `...::test_pays[visa]`.
MAX_OWNER, MAX_VALUE = 200, 500
_CUT = "…"

Variables = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class CiJob:
    """A field is empty if the CI does not set its variable."""

    ci: str
    pipeline: str
    job: str
    run: str
    url: str
    branch: str
    commit: str

    @property
    def owner(self) -> str:
        """`github acme/shop e2e #4711`, for people who look up the holder of a user."""
        run = f"#{self.run}" if self.run else ""
        return as_owner(" ".join(filter(None, (self.ci, self.pipeline, self.job, run))))

    @property
    def metadata(self) -> dict[str, str]:
        found = {
            "ci": self.ci,
            "job_url": self.url,
            "pipeline": self.pipeline,
            "job": self.job,
            "run": self.run,
            "branch": self.branch,
            "commit": self.commit,
        }
        return {name: _tail(value, MAX_VALUE) for name, value in found.items() if value}


@dataclass(frozen=True)
class Holder:
    """The `owner` and `metadata` of a lease that this process acquires."""

    owner: str
    metadata: dict[str, str] = field(default_factory=dict)


def this_holder(variables: Variables = os.environ) -> Holder:
    """The CI job, or outside of CI the person at this machine."""
    job = this_job(variables)
    return Holder(job.owner, job.metadata) if job else Holder(as_owner(f"{_person()}@{socket.gethostname()}"))


def this_job(variables: Variables = os.environ) -> CiJob | None:
    for mark, read in _KNOWN.items():
        if variables.get(mark):
            return read(lambda name: variables.get(name, "").strip())
    return None


def as_owner(text: str) -> str:
    return _tail(text, MAX_OWNER)


Read = Callable[[str], str]


def _github(read: Read) -> CiJob:
    repository, run = read("GITHUB_REPOSITORY"), read("GITHUB_RUN_ID")
    attempt = read("GITHUB_RUN_ATTEMPT") or "1"
    page = f"{read('GITHUB_SERVER_URL')}/{repository}/actions/runs/{run}/attempts/{attempt}"
    return CiJob(
        ci="github",
        pipeline=repository,
        job=read("GITHUB_JOB"),
        run=read("GITHUB_RUN_NUMBER"),
        url=page if repository and run else "",
        branch=read("GITHUB_HEAD_REF") or read("GITHUB_REF_NAME"),
        commit=read("GITHUB_SHA"),
    )


def _gitlab(read: Read) -> CiJob:
    return CiJob(
        ci="gitlab",
        pipeline=read("CI_PROJECT_PATH"),
        job=read("CI_JOB_NAME"),
        run=read("CI_PIPELINE_IID"),
        url=read("CI_JOB_URL"),
        branch=read("CI_COMMIT_REF_NAME"),
        commit=read("CI_COMMIT_SHA"),
    )


def _jenkins(read: Read) -> CiJob:
    return CiJob(
        ci="jenkins",
        pipeline=read("JOB_NAME"),
        job=read("STAGE_NAME"),
        run=read("BUILD_NUMBER"),
        url=read("BUILD_URL"),
        branch=read("CHANGE_BRANCH") or read("BRANCH_NAME") or read("GIT_BRANCH"),
        commit=read("GIT_COMMIT"),
    )


def _teamcity(read: Read) -> CiJob:
    return CiJob(
        ci="teamcity",
        pipeline=read("TEAMCITY_PROJECT_NAME"),
        job=read("TEAMCITY_BUILDCONF_NAME"),
        run=read("BUILD_NUMBER"),
        url=read("BUILD_URL"),
        branch="",  # a parameter of the build, no variable
        commit=read("BUILD_VCS_NUMBER"),
    )


def _buildkite(read: Read) -> CiJob:
    build, job = read("BUILDKITE_BUILD_URL"), read("BUILDKITE_JOB_ID")
    return CiJob(
        ci="buildkite",
        pipeline=read("BUILDKITE_PIPELINE_SLUG"),
        job=read("BUILDKITE_LABEL") or read("BUILDKITE_STEP_KEY"),
        run=read("BUILDKITE_BUILD_NUMBER"),
        url=f"{build}#{job}" if build and job else build,
        branch=read("BUILDKITE_BRANCH"),
        commit=read("BUILDKITE_COMMIT"),
    )


# Each CI by a variable that no other CI sets.
_KNOWN: dict[str, Callable[[Read], CiJob]] = {
    "GITHUB_ACTIONS": _github,
    "GITLAB_CI": _gitlab,
    "BUILDKITE": _buildkite,
    "TEAMCITY_VERSION": _teamcity,
    "JENKINS_URL": _jenkins,
}


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # the user id may have no name; Windows has no `pwd` module
        return str(os.getuid()) if hasattr(os, "getuid") else "somebody"


def _tail(text: str, longest: int) -> str:
    """Printable, and not longer than that."""
    line = "".join(each if each.isprintable() else " " for each in text).encode()
    if len(line) <= longest:
        return line.decode()
    return _CUT + line[len(_CUT.encode()) - longest :].decode(errors="ignore")
