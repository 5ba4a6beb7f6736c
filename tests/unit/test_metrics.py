from pathlib import Path

from prometheus_client import REGISTRY

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
