"""The chart, rendered with some values: documents as Kubernetes would get them."""

from pathlib import Path
from typing import Any

import yaml

from stages import DEPLOY, run, tool

CHART = DEPLOY / "helm/botfarm"
VALUES = {path.stem: path for path in sorted((DEPLOY / "tests/chart_values").glob("*.yaml"))}
Manifest = dict[str, Any]


def render(values: Path, *settings: str, release: str = "farm") -> list[Manifest]:
    """Each setting is a path of values, =, and JSON."""
    changes = (f"--set-json={setting}" for setting in settings)
    return documents(run(tool("helm"), "template", release, str(CHART), "--values", str(values), *changes))


def documents(text: str) -> list[Manifest]:
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    """By name."""
    return {each["metadata"]["name"]: each for each in manifests if each["kind"] == kind}


def hook_of(manifest: Manifest) -> dict[str, str]:
    """What Helm is told about when it is made and when it goes; nothing for a part of the release."""
    annotations: dict[str, str] = manifest["metadata"].get("annotations", {})
    prefix = "helm.sh/hook"
    return {
        name.removeprefix(prefix): value for name, value in annotations.items() if name.startswith(prefix)
    }


def pod_templates(manifests: list[Manifest]) -> dict[str, Manifest]:
    """By component."""
    specs = [each["spec"] for each in manifests if each["kind"] in {"Deployment", "Job"}]
    specs += [each["spec"]["jobTemplate"]["spec"] for each in manifests if each["kind"] == "CronJob"]
    templates = [spec["template"] for spec in specs]
    return {each["metadata"]["labels"]["app.kubernetes.io/component"]: each for each in templates}


def ports_of(template: Manifest) -> dict[str, int]:
    (container,) = template["spec"]["containers"]
    return {port["name"]: port["containerPort"] for port in container.get("ports", [])}
