from typing import Any

import yaml

from stages import DEPLOY

GROUPS: list[dict[str, Any]] = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
_RULES = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = [rule for rule in _RULES if "alert" in rule]
RECORDS = [rule for rule in _RULES if "record" in rule]
