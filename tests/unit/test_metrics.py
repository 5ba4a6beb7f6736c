from pathlib import Path

from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from botfarm import metrics

DOCUMENT = (Path(__file__).parents[2] / "docs/metrics.md").read_text()


def test_every_metric_is_documented_with_its_labels() -> None:
    families = [family for family in REGISTRY.collect() if family.name.startswith("botfarm_")]
    assert metrics.users in vars(metrics).values()
    assert families
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert f"`{name}`" in DOCUMENT
        assert family.documentation


def test_public_metrics_do_not_show_whether_there_is_a_pool() -> None:
    of_pools = {
        family.name
        for metric in vars(metrics).values()
        if isinstance(metric, MetricWrapperBase) and "project" in metric._labelnames
        for family in metric.describe()
    }
    public, whole = (metrics.exposition(with_pools=with_pools).decode() for with_pools in (False, True))
    assert len(of_pools) == 13
    assert [name for name in of_pools if name in public] == []
    assert [name for name in of_pools if name not in whole] == []
