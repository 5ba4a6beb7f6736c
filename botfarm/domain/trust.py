"""Trust rules: whose identity tokens the farm exchanges for a token of its own, and what that token may do.

The claims of GitHub and GitLab, and why names are not enough: docs/ci.md and decision 0063.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from botfarm.domain.access import Role, Run, Scope

Claims = Mapping[str, str]
"""The claims of a verified identity token that are text, numbers or truth values, as text."""

GITHUB, GITLAB = "https://token.actions.githubusercontent.com", "https://gitlab.com"
ROLES = (Role.RUNNER, Role.KEEPER)
LONGEST_TTL = 43_200
"""Seconds: twelve hours, longer than any run of tests."""
_NEEDED = {
    GITHUB: frozenset({"repository_id", "repository_owner_id"}),
    GITLAB: frozenset({"project_id", "namespace_id"}),
}
_IMMUTABLE = re.compile(r"(?:.*[_./-])?[a-z]{0,2}id", re.IGNORECASE)
"""Names of claims that hold an id which nobody can take over, such as `organization_id`, `oid` or `project-id`."""
_NO_OWNER = frozenset(
    {"run_id", "job_id", "pipeline_id", "build_id", "check_run_id", "runner_id", "actor_id", "user_id"}
)
"""Ids of one run, of a machine, or of the person who caused a run: somebody else's project can make them act."""
# GitHub and GitLab treat these names alike in any case.
_CASELESS = frozenset({"repository", "repository_owner", "project_path", "namespace_path"})
# A run for a pull request of a stranger, with the rights of the repository. Only a rule that names it takes it.
_STRANGERS = "pull_request_target"
_RUN = re.compile(r"[A-Za-z0-9._:/@=+-]{1,200}")
_LONGEST = {"owner": 200, "metadata": 500}
"""Bytes of UTF-8, as in a lease."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustRule:
    """The name is unique among the rules that are there. Its runs are the principals `ci:<name>:<run>`."""

    id: UUID
    name: str
    issuer: str
    claims: Claims
    """What the claims must be; `*` in a value stands for any text."""
    role: Role
    scope: Scope
    max_leases: int | None
    """Users that one run holds at the same time; null means any number."""
    max_leases_of_all: int | None
    """Users that all its runs hold at the same time."""
    token_ttl: int
    once: bool
    """Whether an identity token is exchanged once."""
    created_at: datetime
    created_by: str
    managed_by: str | None = None
    """The name of the file that made it."""

    def differs(self, claims: Claims) -> str | None:
        """The name of the first claim that is not as the rule wants it; null when all are."""
        wanted = {**_silently_wanted(claims), **self.claims}
        return next((name for name, value in wanted.items() if not _is_as_wanted(name, value, claims)), None)


def missing_claims(issuer: str, claims: Claims) -> frozenset[str] | None:
    """Null when the claims tie a rule to an owner. Otherwise the claims of which it needs one.

    Which ones is known for GitHub and GitLab only, and empty for others.

    Names are not enough, because a renamed or deleted project leaves its name to anybody.
    """
    exact = {name for name, value in claims.items() if "*" not in value}
    needed = _NEEDED[GITHUB] if _is_github(issuer) else _NEEDED.get(issuer)
    owners = {name for name in exact - _NO_OWNER if _IMMUTABLE.fullmatch(name)}
    tied_by = owners if needed is None else needed & exact
    return None if tied_by else needed or frozenset()


def run_of(claims: Claims, *, token_id: str, rule: TrustRule) -> tuple[str, Run] | None:
    """The id of the run, and how it is described; null without a usable id.

    GitHub numbers the attempts of a run. An issuer that names neither run nor job has one run: its subject.
    """
    run_id = claims.get("run_id") or claims.get("job_id") or claims.get("sub", "")
    if claims.get("run_id") and claims.get("run_attempt"):
        run_id = f"{run_id}.{claims['run_attempt']}"
    if not _RUN.fullmatch(run_id):
        return None
    metadata = {
        name: _cut(value, _LONGEST["metadata"])
        for name, value in _facts(rule.issuer, claims).items()
        if value
    }
    parts = (metadata.get("ci"), metadata.get("pipeline"), metadata.get("job"))
    number = f"#{metadata['run']}" if "run" in metadata else run_id
    owner = _cut(" ".join([*filter(None, parts), number]), _LONGEST["owner"])
    return run_id, Run(
        token_id=token_id,
        owner=owner,
        metadata=metadata,
        rule=rule.name,
        max_leases_of_rule=rule.max_leases_of_all,
    )


def _is_github(issuer: str) -> bool:
    """Also an enterprise's own issuer, and a GitHub Enterprise Server."""
    return issuer == GITHUB or issuer.startswith(f"{GITHUB}/") or issuer.endswith("/_services/token")


def _silently_wanted(claims: Claims) -> dict[str, str]:
    """What a rule wants unless it says otherwise."""
    wanted = {}
    if claims.get("event_name") == _STRANGERS:
        wanted["event_name"] = f"not {_STRANGERS}"
    # In a merge request of a fork, GitLab's project is the fork and the job may run in the parent.
    if "project_id" in claims and "job_project_id" in claims:
        wanted["job_project_id"] = claims["project_id"]
    return wanted


def _is_as_wanted(name: str, wanted: str, claims: Claims) -> bool:
    found = claims.get(name)
    if found is None:
        return False
    if name in _CASELESS:
        wanted, found = wanted.lower(), found.lower()
    if "*" not in wanted:
        return wanted == found
    return _fits(wanted, found)


def _fits(pattern: str, text: str) -> bool:
    """Whether the text is like the pattern. In linear time, which a regular expression with many `*` is not."""
    first, *middle, last = pattern.split("*")
    if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def _facts(issuer: str, claims: Claims) -> dict[str, str]:
    """What people want to know of the run, under the names that the clients use for it."""
    read = claims.get
    if read("repository") and read("run_id"):
        host = "https://github.com" if issuer.startswith(GITHUB) else issuer.removesuffix("/_services/token")
        page = f"{host}/{read('repository')}/actions/runs/{read('run_id')}"
        return {
            "ci": "github",
            "pipeline": read("repository", ""),
            "job": read("workflow", ""),
            "run": read("run_number", ""),
            "job_url": f"{page}/attempts/{read('run_attempt')}" if read("run_attempt") else page,
            "branch": read("head_ref") or read("ref", "").removeprefix("refs/heads/"),
            "commit": read("sha", ""),
        }
    if read("project_path") and read("job_id"):
        return {
            "ci": "gitlab",
            "pipeline": read("project_path", ""),
            "run": read("pipeline_id", ""),
            "job_url": f"{issuer}/{read('project_path')}/-/jobs/{read('job_id')}",
            "branch": read("ref", ""),
            "commit": read("sha", ""),
        }
    return {"ci": issuer.removeprefix("https://"), "pipeline": read("sub", "")}


def _cut(text: str, longest: int) -> str:
    """Printable, and not longer than that."""
    line = "".join(each if each.isprintable() else " " for each in text).encode("utf-8", "replace")
    return line[:longest].decode(errors="ignore")
