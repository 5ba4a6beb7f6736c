"""The chart renders valid Kubernetes objects that fit together, for several values; it refuses wrong ones."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from alert_rules import GROUPS
from dashboards import DASHBOARDS
from manifests import CHART, VALUES, Manifest, documents, hook_of, of_kind, pod_templates, ports_of, render
from stages import CHECKOUT, DEPLOY, run, tool

EACH = pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
KEEPER = {
    "name": "shop",
    "project": "shop",
    "env": "stage",
    "image": "keeper",
    "command": ["keep"],
    "tokenSecret": "shop-keeper",
}
KUBERNETES = ("1.30", "1.32", "1.34", "1.36", "1.37")
# Kinds of the Prometheus operator, which Kubernetes' own schema does not have.
OPERATORS = {"ServiceMonitor", "PrometheusRule"}


@EACH
def test_it_passes_the_linter(values: Path) -> None:
    run(tool("helm"), "lint", "--strict", str(CHART), "--values", str(values))


@EACH
@pytest.mark.parametrize("kubernetes", KUBERNETES)
def test_kubernetes_takes_what_it_renders(values: Path, kubernetes: str) -> None:
    validated = [each for each in render(values) if each["kind"] not in OPERATORS]
    assert len(validated) >= 7
    for manifest in validated:
        kubernetes_validate.validate(manifest, kubernetes, strict=True)


def test_a_misspelled_probe_would_be_refused() -> None:
    deployment = of_kind(render(VALUES["least"]), "Deployment")["farm-botfarm-api"]
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["livenesProbe"] = container.pop("livenessProbe")
    with pytest.raises(kubernetes_validate.ValidationError, match="livenesProbe"):
        kubernetes_validate.validate(deployment, KUBERNETES[0], strict=True)


@EACH
def test_every_pod_keeps_to_the_restricted_standard(values: Path) -> None:
    for component, template in pod_templates(render(values)).items():
        pod = template["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        secrets, *others = [set(volume) for volume in pod["volumes"]]
        assert secrets == {"name", "projected"}
        assert others == ([{"name", "emptyDir"}] if is_keeper(component) else [])
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert set(container["resources"]) == {"requests", "limits"}


def is_keeper(component: str) -> bool:
    return component.startswith("keeper-")


@EACH
def test_whatever_selects_pods_finds_some_and_the_ports_it_names(values: Path) -> None:
    manifests = render(values)
    pods = list(pod_templates(manifests).values())
    selectors = [
        each["spec"]["podSelector"]["matchLabels"] for each in of_kind(manifests, "NetworkPolicy").values()
    ]
    for kind in ("PodDisruptionBudget", "Deployment"):
        selectors += [each["spec"]["selector"]["matchLabels"] for each in of_kind(manifests, kind).values()]
    assert len(selectors) >= 4
    for selector in selectors:
        assert len([pod for pod in pods if selected(pod, selector)]) == 1
    for service in of_kind(manifests, "Service").values():
        found = [pod for pod in pods if selected(pod, service["spec"]["selector"])]
        wanted = {port["targetPort"] for port in service["spec"]["ports"]}
        assert [pod for pod in found if wanted <= set(ports_of(pod))]
    for monitor in of_kind(manifests, "ServiceMonitor").values():
        services = [
            each
            for each in of_kind(manifests, "Service").values()
            if monitor["spec"]["selector"]["matchLabels"].items() <= each["metadata"]["labels"].items()
        ]
        (service,) = services
        assert [port["name"] for port in service["spec"]["ports"]] == [
            monitor["spec"]["endpoints"][0]["port"]
        ]
    for scaler in of_kind(manifests, "HorizontalPodAutoscaler").values():
        target = of_kind(manifests, "Deployment")[scaler["spec"]["scaleTargetRef"]["name"]]
        assert "replicas" not in target["spec"]


def selected(pod: Manifest, selector: dict[str, str]) -> bool:
    return selector.items() <= pod["metadata"]["labels"].items()


@pytest.mark.parametrize("wait", ["0", "50", "300"])
def test_the_grace_period_is_longer_than_the_longest_wait(wait: str) -> None:
    pod = pod_templates(render(VALUES["least"], f'settings.BOTFARM_MAX_WAIT="{wait}"'))["api"]["spec"]
    sleep = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = 20
    assert pod["terminationGracePeriodSeconds"] > sleep + int(wait) + drain


@EACH
def test_only_the_api_gets_the_encryption_keys_and_only_the_migration_the_owners_url(values: Path) -> None:
    pods = pod_templates(render(values))
    keys = {component: keys_of(pod) for component, pod in pods.items() if not is_keeper(component)}
    urls = {"botfarm_database_url", "botfarm_listen_url", "botfarm_database_ca"}
    of_the_api = {"botfarm_encryption_keys", "botfarm_bootstrap_token", "botfarm_oidc_client_secret"}
    assert keys.pop("api") == urls | of_the_api
    assert keys.pop("worker") == urls
    assert all(each == urls | {"botfarm_owner_url"} for each in keys.values())


def keys_of(template: Manifest) -> set[str]:
    """Of Secrets, mounted as files."""
    sources = template["spec"]["volumes"][0]["projected"]["sources"]
    return {item["key"] for source in sources for item in source["secret"]["items"]}


def test_the_owners_url_is_in_the_secret_of_the_migration_alone() -> None:
    owner = 'secret.ownerUrl="postgresql://owner:o@db:5432/botfarm"'
    manifests = render(VALUES["small"], "migrate.enabled=true", owner)
    secrets = of_kind(manifests, "Secret")
    assert {name for name, each in secrets.items() if "owner" in str(each["stringData"])} == {
        "farm-botfarm-migrate"
    }
    assert set(secrets["farm-botfarm-migrate"]["stringData"]) == {
        "botfarm_database_url",
        "botfarm_owner_url",
    }


def test_a_secret_of_the_chart_comes_and_goes_with_the_release() -> None:
    manifests = render(VALUES["small"], "migrate.enabled=true")
    secret = of_kind(manifests, "Secret")["farm-botfarm"]
    assert hook_of(secret) == {}
    assert set(secret["stringData"]) == {
        "botfarm_database_url",
        "botfarm_encryption_keys",
        "botfarm_bootstrap_token",
    }
    assert {secret_of(pod_templates(manifests)[component]) for component in ("api", "worker")} == {
        "farm-botfarm"
    }
    assert "Secret" not in {each["kind"] for each in render(VALUES["least"])}


def secret_of(template: Manifest) -> str:
    (name,) = {source["secret"]["name"] for source in template["spec"]["volumes"][0]["projected"]["sources"]}
    return str(name)


def test_what_the_migration_needs_is_there_before_it_and_goes_with_it() -> None:
    manifests = render(VALUES["small"], "migrate.enabled=true", "networkPolicy.enabled=true")
    hooks = {each["kind"]: each for each in manifests if hook_of(each)}
    assert set(hooks) == {"Job", "Secret", "NetworkPolicy"}
    weights = {kind: int(hook_of(each)["-weight"]) for kind, each in hooks.items()}
    assert weights["Secret"] < weights["Job"] > weights["NetworkPolicy"]
    for each in hooks.values():
        assert hook_of(each)[""] == "pre-install,pre-upgrade"
        assert hook_of(each)["-delete-policy"] == "before-hook-creation,hook-succeeded"
    migrate = hooks["Job"]["spec"]["template"]
    assert selected(migrate, hooks["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"])
    assert hooks["Secret"]["metadata"]["name"] == secret_of(migrate)
    assert set(hooks["Secret"]["stringData"]) == {"botfarm_database_url"}


def test_the_migration_runs_where_the_api_may() -> None:
    pods = pod_templates(render(VALUES["everything"]))
    for name in ("imagePullSecrets", "nodeSelector", "tolerations", "affinity"):
        assert pods["migrate"]["spec"][name] == pods["api"]["spec"][name]


def test_a_migration_that_failed_leaves_its_log_for_an_hour() -> None:
    (job,) = of_kind(render(VALUES["least"]), "Job").values()
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    assert job["spec"]["ttlSecondsAfterFinished"] == 3600


def test_without_a_migration_there_is_no_policy_for_it() -> None:
    policies = of_kind(render(VALUES["small"], "networkPolicy.enabled=true"), "NetworkPolicy")
    assert set(policies) == {"farm-botfarm-api", "farm-botfarm-worker"}


def test_the_api_alone_may_ask_issuers_and_only_those_that_are_named() -> None:
    def ports(*settings: str) -> dict[str, set[int]]:
        policies = of_kind(render(VALUES["small"], "networkPolicy.enabled=true", *settings), "NetworkPolicy")
        return {
            name: {port["port"] for rule in each["spec"]["egress"] for port in rule["ports"]}
            for name, each in policies.items()
        }

    assert 443 not in ports()["farm-botfarm-api"]
    named = ports('networkPolicy.issuers=[{"ipBlock": {"cidr": "0.0.0.0/0"}}]')
    assert {name for name, allowed in named.items() if 443 in allowed} == {"farm-botfarm-api"}


def test_nodes_can_be_drained_while_the_database_is_away() -> None:
    budgets = of_kind(render(VALUES["least"]), "PodDisruptionBudget")
    assert set(budgets) == {"farm-botfarm-api", "farm-botfarm-worker"}
    assert {each["spec"]["unhealthyPodEvictionPolicy"] for each in budgets.values()} == {"AlwaysAllow"}


def test_names_stay_within_what_kubernetes_takes() -> None:
    release = "accounts-of-end-to-end-tests-of-the-shop-in-preprod"
    tag = "main-3f2c1d4e5b6a79880123456789abcdef01234567"
    keeper = f"keepers={json.dumps([{**KEEPER, 'name': 'n' * 20, 'schedule': '@daily'}])}"
    manifests = render(VALUES["everything"], f'image.tag="{tag}"', keeper, release=release)
    names = [name for kind in ("Service", "Job") for name in of_kind(manifests, kind)]
    assert len(names) == 3
    for name in names:
        assert re.fullmatch(r"[a-z]([a-z0-9-]{,61}[a-z0-9])?", name)
    (name,) = of_kind(manifests, "CronJob")
    assert re.fullmatch(r"[a-z][a-z0-9-]{,50}[a-z0-9]", name)


def test_the_rules_and_the_dashboards_are_the_ones_that_are_tested() -> None:
    manifests = render(VALUES["everything"], 'monitoring.runbookBase=""')
    (rule,) = of_kind(manifests, "PrometheusRule").values()
    assert rule["spec"] == {"groups": GROUPS}
    found: dict[str, Any] = {}
    for config_map in of_kind(manifests, "ConfigMap").values():
        assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
        found |= config_map["data"]
    assert {name: yaml.safe_load(text) for name, text in found.items()} == {
        f"botfarm-{name}.json": dashboard for name, dashboard in DASHBOARDS.items()
    }


def test_no_keeper_runs_unless_there_is_one() -> None:
    manifests = render(VALUES["least"])
    assert set(pod_templates(manifests)) == {"api", "worker", "migrate"}
    assert not of_kind(manifests, "CronJob")


def test_a_keeper_without_a_schedule_waits_for_the_next_chore() -> None:
    manifests = render(VALUES["keepers"])
    assert of_kind(manifests, "Deployment")["farm-botfarm-keeper-cleans-all-day"]["spec"]["replicas"] == 2
    pod = pod_templates(manifests)["keeper-cleans-all-day"]["spec"]
    assert " ".join(command_of(pod)) == (
        "botfarm chores run --project shop --env stage --forever -- python -m keeper"
    )
    assert pod["terminationGracePeriodSeconds"] == 60


def test_a_keeper_with_a_schedule_ends_and_is_never_started_beside_itself() -> None:
    manifests = render(VALUES["keepers"])
    job = of_kind(manifests, "CronJob")["farm-botfarm-keeper-checks-each-night"]["spec"]
    assert (job["schedule"], job["timeZone"], job["concurrencyPolicy"]) == ("30 2 * * *", "Etc/UTC", "Forbid")
    assert job["startingDeadlineSeconds"] == 3600
    assert job["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 24 * 3600
    pod = pod_templates(manifests)["keeper-checks-each-night"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert command_of(pod) == [
        *("botfarm", "chores", "run", "--project", "the shop", "--env", "preprod", "--domain", "canary"),
        *("--label", "plan=1", "--label", "tenant=a", "--"),
        *("sh", "-c", 'exec ./keeper --note "it is night"'),
    ]


def command_of(pod: Manifest) -> list[str]:
    (container,) = pod["containers"]
    return [*container["command"], *container["args"]]


def test_a_keeper_gets_its_token_as_a_file_and_the_address_of_the_api_and_no_other_secret() -> None:
    manifests = render(VALUES["keepers"], "service.port=8080")
    keepers = {name: pod for name, pod in pod_templates(manifests).items() if is_keeper(name)}
    assert [secret_of(pod) for pod in keepers.values()] == ["shop-keeper", "shop-keeper-preprod"]
    for pod in keepers.values():
        assert keys_of(pod) == {"botfarm_token"}
        (container,) = pod["spec"]["containers"]
        environment = {each["name"]: each["value"] for each in container["env"]}
        folder, tmp = [each["mountPath"] for each in container["volumeMounts"]]
        assert environment["BOTFARM_TOKEN_FILE"] == f"{folder}/botfarm_token"
        assert environment["BOTFARM_URL"] == "http://farm-botfarm-api:8080"
        assert environment["HOME"] == tmp
        assert "farm-botfarm-api" in of_kind(manifests, "Service")


def test_the_documented_keeper_is_the_deployment_whose_log_is_shown(tmp_path: Path) -> None:
    page = (CHECKOUT / "docs/operations.md").read_text()
    documented = re.search(r"^cat >keepers.yaml <<'END'$(.*?)^END$", page, re.MULTILINE | re.DOTALL)
    assert documented
    (tmp_path / "keepers.yaml").write_text(f"existingSecret: botfarm\n{documented[1]}")
    deployments = of_kind(render(tmp_path / "keepers.yaml", release="botfarm"), "Deployment")
    (keeper,) = set(deployments) - {"botfarm-api", "botfarm-worker"}
    assert f"logs deployment/{keeper}\n" in page
    (key,) = keys_of(deployments[keeper]["spec"]["template"])
    assert (
        f"create secret generic {secret_of(deployments[keeper]['spec']['template'])} --from-file={key}"
        in page
    )


INGRESS = 'ingress={"enabled": true, "host": "farm.test"}'


def test_behind_an_ingress_the_api_trusts_the_proxies_that_are_named() -> None:
    proxies = 'settings.BOTFARM_TRUSTED_PROXIES="10.244.0.0/16"'
    environment = environment_of_the_api(render(VALUES["least"], INGRESS, proxies))
    assert environment["BOTFARM_TRUSTED_PROXIES"] == "10.244.0.0/16"


def test_trusting_no_proxy_behind_an_ingress_is_said_explicitly() -> None:
    nobody = 'settings.BOTFARM_TRUSTED_PROXIES="none"'
    manifests = render(VALUES["least"], INGRESS, nobody)
    assert of_kind(manifests, "Ingress")
    assert "BOTFARM_TRUSTED_PROXIES" not in environment_of_the_api(manifests)
    assert "audit shows its address for everybody" in notes(INGRESS, nobody)


def environment_of_the_api(manifests: list[Manifest]) -> dict[str, str]:
    (container,) = pod_templates(manifests)["api"]["spec"]["containers"]
    return {variable["name"]: variable["value"] for variable in container["env"]}


def test_a_load_balancer_can_keep_the_callers_addresses() -> None:
    balancer = 'service.type="LoadBalancer"'
    assert "set service.externalTrafficPolicy=Local" in notes(balancer)
    local = 'service.externalTrafficPolicy="Local"'
    assert "externalTrafficPolicy" not in notes(balancer, local)
    services = of_kind(render(VALUES["least"], balancer, local), "Service")
    assert services["farm-botfarm-api"]["spec"]["externalTrafficPolicy"] == "Local"


def notes(*settings: str) -> str:
    """What `helm install` prints."""
    changes = [f"--set-json={setting}" for setting in settings]
    command = ("install", "farm", str(CHART), "--dry-run=client", "--values", str(VALUES["least"]))
    return run(tool("helm"), *command, *changes).partition("\nNOTES:\n")[2]


def test_alerts_may_link_to_a_copy_of_the_runbook() -> None:
    (rule,) = of_kind(render(VALUES["everything"]), "PrometheusRule").values()
    links = re.findall(r"\S*docs/runbook\.md#\w+", str(rule))
    assert len(links) > 10
    assert all(link.strip("'").startswith("https://wiki.test/botfarm/docs/runbook.md#") for link in links)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("api.replica=3", "replica"),
        ('settings.BOTFARM_DATABASE_URL="postgresql://u:p@h/d"', "BOTFARM_DATABASE_URL"),
        ('settings.BOTFARM_OWNER_URL="postgresql://u:p@h/d"', "BOTFARM_OWNER_URL"),
        ('settings.BOTFARM_OIDC_CLIENT_SECRET="x"', "BOTFARM_OIDC_CLIENT_SECRET"),
        ('settings.BOTFARM_MAX_WAIT="301"', "BOTFARM_MAX_WAIT"),
        ('settings.botfarm_notify="off"', "botfarm_notify"),
        ("api.autoscaling.minReplicas=7", "minReplicas is above maxReplicas"),
        ('ingress={"enabled": true, "host": "farm.test"}', "set settings.BOTFARM_TRUSTED_PROXIES"),
        ('settings.BOTFARM_TRUSTED_PROXIES="ingress-nginx"', "BOTFARM_TRUSTED_PROXIES"),
        (f"keepers={json.dumps([{**KEEPER, 'tokenSecret': ''}])}", "tokenSecret"),
        (f"keepers={json.dumps([{**KEEPER, 'env': 'Production'}])}", "/keepers/0/env"),
        (f"keepers={json.dumps([{**KEEPER, 'command': 'keep'}])}", "/keepers/0/command"),
        (f"keepers={json.dumps([{**KEEPER, 'schedule': 'nightly'}])}", "/keepers/0/schedule"),
        (f"keepers={json.dumps([{**KEEPER, 'label': {'tenant': 'a'}}])}", "label"),
        (f"keepers={json.dumps([{**KEEPER, 'name': 'a-name-of-21-letters-'}])}", "/keepers/0/name"),
        (f"keepers={json.dumps([KEEPER, {**KEEPER, 'env': 'prod'}])}", "two keepers are called shop"),
        ('existingSecret=""', "set existingSecret, or secret.databaseUrl and secret.encryptionKeys"),
    ],
)
def test_wrong_values_are_refused(wrong: str, said: str) -> None:
    command = (
        tool("helm"),
        "template",
        str(CHART),
        "--values",
        str(VALUES["least"]),
        f"--set-json={wrong}",
    )
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert said in refused.stderr


def test_the_plain_set_is_what_the_chart_renders(tmp_path: Path) -> None:
    run("sh", str(DEPLOY / "k8s/render.sh"), str(tmp_path), environment={"HELM": tool("helm")})
    for name in ("botfarm.yaml", "monitoring.yaml"):
        rendered = (tmp_path / name).read_text()
        assert documents(rendered)
        assert (DEPLOY / "k8s" / name).read_text() == rendered, f"run deploy/k8s/render.sh: {CHECKOUT}"
