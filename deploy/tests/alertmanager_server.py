"""A real Alertmanager with our configuration, or with a changed one."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from farm_processes import free_port
from stages import DEPLOY, TOOLS, tool
from support.processes import running

CONFIGURATION = DEPLOY / "alertmanager/alertmanager.yml"


@contextmanager
def alertmanager(folder: Path, configuration: Mapping[str, Any] | None = None) -> Iterator[str]:
    """Gives host:port."""
    path = folder / "alertmanager.yml"
    path.write_text(yaml.safe_dump(configuration) if configuration else CONFIGURATION.read_text())
    address = f"127.0.0.1:{free_port()}"
    command = (
        tool("prometheus-alertmanager"),
        f"--config.file={path}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
    )
    with running(*command, environment={}, cwd=TOOLS) as process:  # where install.sh put its templates
        process.wait_for("Listening on|msg=Listening")
        yield address
