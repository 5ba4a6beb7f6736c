"""Whom the chart's NetworkPolicies let in, and where they let its pods go."""

from pathlib import Path
from typing import Any

import pytest

from manifests import VALUES, of_kind, pod_templates, render

Labels = dict[str, str]
DNS = 53
DATABASE = 5432
COMPONENTS = ("api", "worker", "migrate")
PROMETHEUS = {"app.kubernetes.io/name": "prometheus"}
COREDNS = {"k8s-app": "kube-dns"}
KEEPERS = ("keeper-cleans-all-day", "keeper-checks-each-night")


def policy(component: str, *settings: str, values: Path = VALUES["least"]) -> dict[str, Any]:
    spec: dict[str, Any] = of_kind(render(values, *settings), "NetworkPolicy")[f"farm-botfarm-{component}"][
        "spec"
    ]
    return spec


def peers_of(rules: list[dict[str, Any]], port: str | int, side: str) -> list[dict[str, Any]] | None:
    """Of the rule for that port; None when it lets everybody pass."""
    (rule,) = [each for each in rules if port in {asked["port"] for asked in each["ports"]}]
    peers: list[dict[str, Any]] | None = rule.get(side)
    return peers


def is_let_pass(peers: list[dict[str, Any]] | None, namespace: str, pod: Labels) -> bool:
    """As Kubernetes decides it, for selectors by matchLabels."""
    namespace_labels = {"kubernetes.io/metadata.name": namespace}
    return peers is None or any(
        "namespaceSelector" in peer
        and selects(peer["namespaceSelector"], namespace_labels)
        and selects(peer.get("podSelector", {}), pod)
        for peer in peers
    )


def selects(selector: dict[str, Labels], labels: Labels) -> bool:
    return selector.get("matchLabels", {}).items() <= labels.items()


@pytest.mark.parametrize("component", ["api", "worker"])
def test_only_the_prometheus_of_its_namespace_scrapes(component: str) -> None:
    peers = peers_of(policy(component)["ingress"], "metrics", "from")
    assert is_let_pass(peers, "monitoring", PROMETHEUS)
    assert not is_let_pass(peers, "somebody", PROMETHEUS)
    assert not is_let_pass(peers, "monitoring", {"app.kubernetes.io/name": "grafana"})


@pytest.mark.parametrize("component", COMPONENTS)
def test_only_the_dns_of_the_cluster_is_asked(component: str) -> None:
    peers = peers_of(policy(component)["egress"], DNS, "to")
    assert is_let_pass(peers, "kube-system", COREDNS)
    assert not is_let_pass(peers, "somebody", COREDNS)
    assert not is_let_pass(peers, "kube-system", {})


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_database_is_where_the_values_say(component: str) -> None:
    here = [{"ipBlock": {"cidr": "10.1.2.3/32"}}]
    egress = policy(component, values=VALUES["everything"])["egress"]
    assert peers_of(egress, DATABASE, "to") == here
    issuers = {443} if component == "api" else set()
    assert {each["port"] for rule in egress for each in rule["ports"]} == {DNS, DATABASE, 6432} | issuers
    assert peers_of(policy(component)["egress"], DATABASE, "to") is None


def labels_of(component: str) -> Labels:
    template: dict[str, Any] = pod_templates(render(VALUES["keepers"]))[component]
    labels: Labels = template["metadata"]["labels"]
    return labels


def test_keepers_call_the_api_beside_the_clients_that_are_named() -> None:
    clients = peers_of(policy("api", values=VALUES["keepers"])["ingress"], "http", "from")
    assert clients is not None
    of_the_namespace = [peer["podSelector"] for peer in clients if "namespaceSelector" not in peer]
    for component in KEEPERS:
        assert [peer for peer in of_the_namespace if selects(peer, labels_of(component))]
    assert not [peer for peer in of_the_namespace if selects(peer, labels_of("worker"))]
    assert peers_of(policy("api")["ingress"], "http", "from") is None


def test_nobody_calls_a_keeper() -> None:
    for component in KEEPERS:
        spec = policy(component, values=VALUES["keepers"])
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        assert "ingress" not in spec


def test_a_keeper_reaches_the_system_under_test_and_the_api() -> None:
    *usual, system = policy("keeper-checks-each-night", values=VALUES["keepers"])["egress"]
    assert system == {"to": [{"ipBlock": {"cidr": "10.9.0.0/16"}}]}
    assert is_let_pass(peers_of(usual, DNS, "to"), "kube-system", COREDNS)
    (api,) = peers_of(usual, "http", "to") or []
    assert selects(api["podSelector"], labels_of("api"))
    assert not selects(api["podSelector"], labels_of("worker"))


def test_a_keeper_whose_system_is_not_named_reaches_any_host() -> None:
    assert policy("keeper-cleans-all-day", values=VALUES["keepers"])["egress"] == [{}]
