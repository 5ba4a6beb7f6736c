"""The objects for the Prometheus operator satisfy its schemas: known fields, valid durations and names."""

import json
from pathlib import Path

import pytest

from manifests import VALUES, Manifest, documents, of_kind, render
from stages import DEPLOY, run, tool
from typescript import compile_typescript, spoilt

MODELS = "@kubernetes-models/prometheus-operator"
KINDS = ("ServiceMonitor", "PrometheusRule")
PLAIN = "the plain set"
FIRST_RULE = ("spec", "groups", 0, "rules", 0)


def of_the_operator(values: str, kind: str) -> Manifest:
    plain = (DEPLOY / "k8s/monitoring.yaml").read_text()
    manifests = documents(plain) if values == PLAIN else render(VALUES[values])
    (manifest,) = of_kind(manifests, kind).values()
    return manifest


def check(manifest: Manifest, folder: Path) -> None:
    """The types refuse a field that the operator does not know, the schema a value that it does not take."""
    kind = manifest["kind"]
    source = folder / "manifest.mts"
    source.write_text(
        f"import {{{kind}, type I{kind}}} from '{MODELS}/{manifest['apiVersion']}';\n"
        f"const manifest: I{kind} = {json.dumps(manifest)};\n"
        f"new {kind}(manifest).validate();\n"
    )
    compile_typescript(source, with_types_of=MODELS)
    run(tool("node"), "manifest.mjs", cwd=folder)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("values", ["everything", PLAIN])
def test_the_prometheus_operator_takes_what_it_gets(values: str, kind: str, tmp_path: Path) -> None:
    check(of_the_operator(values, kind), tmp_path)


@pytest.mark.parametrize(
    ("kind", "where", "wrong", "said"),
    [
        ("ServiceMonitor", ("spec", "endpoints", 0, "intervall"), "15s", "error TS.*intervall"),
        ("ServiceMonitor", ("spec", "podTargetLables"), ["component"], "error TS.*podTargetLables"),
        ("ServiceMonitor", ("apiVersion",), "monitoring.coreos.com/v3", "error TS.*coreos.com/v3"),
        ("ServiceMonitor", ("spec", "endpoints", 0, "interval"), "15 seconds", "must match pattern"),
        ("PrometheusRule", (*FIRST_RULE, "label"), {"severity": "warning"}, "error TS.*label"),
        ("PrometheusRule", (*FIRST_RULE, "expr"), None, "error TS.*null"),
        ("PrometheusRule", (*FIRST_RULE, "for"), "5 minutes", "must match pattern"),
    ],
)
def test_what_is_wrong_in_them_would_be_found(
    kind: str, where: tuple[str | int, ...], wrong: object, said: str, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError, match=said):
        check(spoilt(of_the_operator("everything", kind), where, wrong), tmp_path)
