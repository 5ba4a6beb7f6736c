"""A real Grafana accepts what we provision. Needs an installed one: no source of `install.sh` has it."""

import shutil
import time
from pathlib import Path

import httpx
import yaml

from dashboards import DASHBOARDS
from farm_processes import free_port
from stages import DEPLOY, skip
from support.processes import running

HOME = Path("/usr/share/grafana")


def test_grafana_shows_all_dashboards(tmp_path: Path) -> None:
    server = shutil.which("grafana-server")
    if server is None or not HOME.is_dir():
        skip("grafana-server", "Grafana is not installed")
    provisioning = tmp_path / "provisioning"
    shutil.copytree(DEPLOY / "grafana/provisioning", provisioning)
    providers = yaml.safe_load((provisioning / "dashboards/botfarm.yml").read_text())
    providers["providers"][0]["options"]["path"] = str(DEPLOY / "grafana/dashboards")
    (provisioning / "dashboards/botfarm.yml").write_text(yaml.safe_dump(providers))
    port = free_port()
    environment = {
        "GF_PATHS_PROVISIONING": str(provisioning),
        "GF_PATHS_DATA": str(tmp_path),
        "GF_SERVER_HTTP_ADDR": "127.0.0.1",
        "GF_SERVER_HTTP_PORT": str(port),
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
    }
    with running(server, "--homepath", str(HOME), environment=environment) as process:
        process.wait_for("HTTP Server Listen")
        deadline = time.monotonic() + 60
        missing = {dashboard["uid"] for dashboard in DASHBOARDS.values()}
        while missing:
            assert time.monotonic() < deadline, process.output
            missing = {uid for uid in missing if not _is_there(port, uid)}


def _is_there(port: int, uid: str) -> bool:
    return httpx.get(f"http://127.0.0.1:{port}/api/dashboards/uid/{uid}").is_success
