"""The real processes answer the probes of the chart's pods, and accept the environment that it gives them."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from farm_processes import FarmProcesses, farm_processes
from manifests import VALUES, Manifest, pod_templates, ports_of, render
from stages import run
from support.farm import KEYS, TOKEN
from support.processes import BOTFARM

TEMPLATES = ("api", "worker")
SECRETS = {
    "botfarm_database_url": "postgresql://u:p@db/farm",
    "botfarm_encryption_keys": KEYS,
    "botfarm_bootstrap_token": TOKEN,
    "botfarm_listen_url": "postgresql://u:p@db:5433/farm",
    "botfarm_oidc_client_secret": "of-the-provider",
    "botfarm_owner_url": "postgresql://o:p@db/farm",
    "botfarm_database_ca": "-----BEGIN CERTIFICATE-----",
}


@pytest.fixture(scope="module")
def farm(database_url: str) -> Iterator[FarmProcesses]:
    with farm_processes(database_url) as farm:
        yield farm


def asked(template: Manifest) -> list[tuple[str, int]]:
    """Path and port of each probe."""
    (container,) = template["spec"]["containers"]
    probes = [container[name]["httpGet"] for name in container if name.endswith("Probe")]
    return [(probe["path"], ports_of(template)[probe["port"]]) for probe in probes]


def test_each_probe_is_answered_by_the_real_process(farm: FarmProcesses) -> None:
    addresses = {8000: farm.url, 8001: f"http://{farm.worker_metrics[0]}", 9090: f"http://{farm.api_metrics}"}
    templates = pod_templates(render(VALUES["least"]))
    probes = {component: asked(templates[component]) for component in TEMPLATES}
    assert {component: len(each) for component, each in probes.items()} == {"api": 3, "worker": 2}
    for path, port in [*probes["api"], *probes["worker"]]:
        answer = httpx.get(addresses[port] + path)
        assert (answer.status_code, answer.text) == (200, "ok"), path
    for component in TEMPLATES:
        answer = httpx.get(f"{addresses[ports_of(templates[component])['metrics']]}/metrics")
        assert "botfarm_db_up 1.0" in answer.text


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("component", ["api", "worker", "migrate"])
def test_the_environment_is_one_that_the_commands_take(values: Path, component: str, tmp_path: Path) -> None:
    template = pod_templates(render(values, "migrate.enabled=true"))[component]
    (container,) = template["spec"]["containers"]
    for source in template["spec"]["volumes"][0]["projected"]["sources"]:
        for item in source["secret"]["items"]:
            (tmp_path / item["path"]).write_text(SECRETS[item["key"]])
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert environment.pop("BOTFARM_SECRETS_DIR") == container["volumeMounts"][0]["mountPath"]
    shown = json.loads(
        run(BOTFARM, "config", "--json", environment={**environment, "BOTFARM_SECRETS_DIR": str(tmp_path)})
    )
    off = {"off": "False"}
    assert {name: str(shown[name]) for name in environment} == {
        n: off.get(v, v) for n, v in environment.items()
    }
    assert shown["BOTFARM_DATABASE_URL"] == "********"
    assert (shown["BOTFARM_ENCRYPTION_KEYS"] is not None) == (component == "api")
