"""The recipes of docs/ci.md, cut out of the page and run as their CIs run them.

Shells, variables and the order of the steps are those of the CI. The test puts stand-ins for other programs
(pip, npx) on the PATH.
"""

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from support.processes import CHECKOUT, clean_environment

PAGE = CHECKOUT / "docs/ci.md"
Variables = dict[str, str]


def recipe(name: str) -> str:
    """The fenced block that begins with a comment of that file's name."""
    for block in re.findall(r"^```\w+\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE):
        first, _, rest = block.partition("\n")
        if first.lstrip("#/ ") == name:
            return str(rest)
    raise AssertionError(f"{PAGE.name} has no recipe {name}")


@dataclass(frozen=True)
class Step:
    script: str
    shell: tuple[str, ...]
    is_cleanup: bool = False
    """Runs whatever happened before."""
    needs: str | None = None
    """A variable that must be there."""


@dataclass(frozen=True)
class Job:
    """One cell of a matrix, or one of several side by side."""

    name: str
    steps: list[Step]
    variables: Variables = field(default_factory=dict)


@dataclass
class Outcome:
    codes: list[int] = field(default_factory=list)
    """Of each step that ran."""
    log: str = ""


def run(job: Job, folder: Path, variables: Mapping[str, str]) -> Outcome:
    """Each step is a shell of its own; what is written to GITHUB_ENV is there for the later ones."""
    outcome, failed = Outcome(), False
    files = {"GITHUB_ENV": folder / "github-env", "GITHUB_OUTPUT": folder / "github-output"}
    for step in job.steps:
        handed_on = _handed_on(files["GITHUB_ENV"])
        environment = {**job.variables, **variables, **{k: str(v) for k, v in files.items()}, **handed_on}
        if (failed and not step.is_cleanup) or (step.needs and not environment.get(step.needs)):
            continue
        finished = subprocess.run(
            [*step.shell, _filled_in(step.script, environment)],
            cwd=folder,
            env={**_machine(), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
            check=False,
        )
        outcome.codes.append(finished.returncode)
        outcome.log += finished.stdout
        failed = failed or finished.returncode != 0
    return outcome


def _machine() -> Variables:
    """Of whoever runs the tests, which may be a CI as well."""
    kinds = ("GITHUB_", "GITLAB_", "CI", "JENKINS_", "TEAMCITY_", "BUILDKITE", "PYTEST_")
    return {name: value for name, value in clean_environment({}).items() if not name.startswith(kinds)}


def github_jobs() -> Iterator[Job]:
    workflow = yaml.safe_load(recipe(".github/workflows/e2e.yml"))
    assert workflow["permissions"] == {"contents": "read", "id-token": "write"}
    for name, job in workflow["jobs"].items():
        for cell in _cells(job["strategy"]["matrix"]):
            steps = [_github_step(each) for each in job["steps"] if "run" in each]
            matrix = {f"matrix.{key}": value for key, value in cell.items()}
            yield Job(
                name, steps, {**workflow["env"], **matrix, "GITHUB_ACTIONS": "true", "GITHUB_JOB": name}
            )


def _github_step(step: Mapping[str, str]) -> Step:
    condition = re.fullmatch(r"\$\{\{ (always\(\)) && env\.(\w+) != '' \}\}", step.get("if", ""))
    assert condition or "if" not in step, "a condition that is not known here"
    needs = condition[2] if condition else None
    return Step(step["run"], ("bash", "-e", "-c"), is_cleanup=condition is not None, needs=needs)


def gitlab_jobs() -> Iterator[Job]:
    pipeline = yaml.safe_load(recipe(".gitlab-ci.yml"))
    variables = pipeline.pop("variables")
    assert list(pipeline.pop("default")["id_tokens"]) == ["BOTFARM_ID_TOKEN"]
    shell = ("bash", "-eo", "pipefail", "-c")
    for name, job in pipeline.items():
        steps = [Step("\n".join([*job.get("before_script", []), *job["script"]]), shell)]
        if "after_script" in job:
            steps.append(Step("\n".join(job["after_script"]), shell, is_cleanup=True))
        for cell in _gitlab_cells(job["parallel"]):
            yield Job(name, steps, {**variables, **cell, "GITLAB_CI": "true", "CI_JOB_NAME": name})


def jenkins_jobs() -> Iterator[Job]:
    """Jenkinsfiles are Groovy: of ours, which are plain, patterns find the steps of each matrix."""
    text = recipe("Jenkinsfile")
    head, *matrices = re.split(r"^    stage\('(?=[\w ]+'\) \{\n      matrix)", text, flags=re.MULTILINE)
    variables = dict(re.findall(r"(\w+) = '(.*)'", head))
    for matrix in matrices:
        name = matrix.partition("'")[0]
        ((axis, values),) = re.findall(r"name '(\w+)'\s+values (.*)", matrix)
        body, _, post = matrix.partition("post {")
        steps = [Step(script, ("sh", "-xe", "-c")) for script in _jenkins_steps(body)]
        steps += [Step(script, ("sh", "-xe", "-c"), is_cleanup=True) for script in _jenkins_steps(post)]
        for value in re.findall(r"'([^']*)'", values):
            yield Job(
                name, steps, {**variables, axis: value, "JENKINS_URL": "https://ci.test", "STAGE_NAME": name}
            )


def _jenkins_steps(text: str) -> list[str]:
    return [long or short for long, short in re.findall(r"\bsh (?:'''(.*?)'''|'([^'\n]*)')", text, re.DOTALL)]


def _cells(matrix: Mapping[str, list[Any]]) -> Iterator[Variables]:
    for values in product(*matrix.values()):
        yield {key: str(value) for key, value in zip(matrix, values, strict=True)}


def _gitlab_cells(parallel: Any) -> Iterator[Variables]:
    if isinstance(parallel, int):
        for index in range(1, parallel + 1):
            yield {"CI_NODE_INDEX": str(index), "CI_NODE_TOTAL": str(parallel)}
        return
    for matrix in parallel["matrix"]:
        yield from _cells(matrix)


def _handed_on(path: Path) -> Variables:
    """`NAME<<delimiter`, lines, `delimiter`."""
    text = path.read_text() if path.exists() else ""
    return {
        name: value
        for name, _, value in re.findall(r"^(\w+)<<(\w+)\n(.*?)\n\2$", text, re.DOTALL | re.MULTILINE)
    }


def _filled_in(script: str, environment: Mapping[str, str]) -> str:
    """GitHub's expressions; one that is not known is an error."""
    return re.sub(r"\$\{\{ *(?:env\.)?([\w.]+) *\}\}", lambda found: environment[found[1]], script)
