"""docker-compose.yml, without an engine: it is right, wants its secrets, and names none."""

import re
import subprocess
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from container_engine import STANDINS, compose_command
from stages import CHECKOUT, run

SECRETS = ("POSTGRES_PASSWORD", "POSTGRES_APP_PASSWORD", "BOTFARM_ENCRYPTION_KEYS", "GRAFANA_PASSWORD")
FILE = CHECKOUT / "docker-compose.yml"


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    """Written by deploy/env.sh, in a folder of its own."""
    (tmp_path / "deploy").mkdir()
    script = tmp_path / "deploy/env.sh"
    script.write_text((CHECKOUT / "deploy/env.sh").read_text())
    run("sh", str(script))
    return tmp_path / ".env"


def config(env_file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [*compose_command(), "--file", str(FILE), "--env-file", str(env_file), "config", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_is_right_with_what_env_sh_writes(env_file: Path) -> None:
    assert env_file.stat().st_mode & 0o077 == 0
    finished = config(env_file, "--quiet")
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("secret", SECRETS)
def test_without_a_secret_it_says_where_it_comes_from(env_file: Path, secret: str) -> None:
    env_file.write_text(re.sub(rf"^{secret}=.*$", "", env_file.read_text(), flags=re.MULTILINE))
    finished = config(env_file, "--quiet")
    assert finished.returncode != 0
    assert "run `sh deploy/env.sh` first" in finished.stderr


def test_the_bootstrap_token_can_be_dropped(env_file: Path) -> None:
    env_file.write_text(
        re.sub(r"^BOTFARM_BOOTSTRAP_TOKEN=.*\n", "", env_file.read_text(), flags=re.MULTILINE)
    )
    finished = config(env_file)
    assert finished.returncode == 0, finished.stderr
    assert yaml.safe_load(finished.stdout)["services"]["api"]["environment"]["BOTFARM_BOOTSTRAP_TOKEN"] == ""


def test_a_released_image_is_pulled_and_one_of_our_own_is_not(env_file: Path) -> None:
    assert images_of_ours(env_file) == {("botfarm", "never")}
    released = "BOTFARM_IMAGE=registry.example/botfarm:0.1.0\nBOTFARM_PULL_POLICY=missing\n"
    env_file.write_text(env_file.read_text() + released)
    assert images_of_ours(env_file) == {("registry.example/botfarm:0.1.0", "missing")}


def images_of_ours(env_file: Path) -> set[tuple[str, str]]:
    services = yaml.safe_load(config(env_file).stdout)["services"]
    ours = [services[name] for name in ("migrate", "demo", "api", "worker", "runners", "shop", "keeper")]
    return {(service["image"], service["pull_policy"]) for service in ours}


def test_services_are_restricted_restart_and_are_waited_for(env_file: Path) -> None:
    services: dict[str, Any] = yaml.safe_load(config(env_file).stdout)["services"]
    assert services["api"]["deploy"]["replicas"] == 2
    for name, service in services.items():
        if name != "database":
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["logging"] == {"driver": "local", "options": {"max-size": "50m", "max-file": "5"}}
        for port in service.get("ports", []):
            assert port["host_ip"] == "127.0.0.1"
        assert service.get("init", False) == (service["image"] == "botfarm")
        assert name in {"migrate", "demo"} or service["restart"] == "unless-stopped"
        assert ":latest" not in service["image"]
    waits = {
        name: {n: d["condition"] for n, d in service.get("depends_on", {}).items()}
        for name, service in services.items()
    }
    assert waits["migrate"] == {"database": "service_healthy"}
    assert waits["worker"] == {"migrate": "service_completed_successfully"}
    assert waits["api"]["migrate"] == "service_completed_successfully"
    assert waits["balancer"] == {"api": "service_healthy"}


def test_the_stand_ins_of_the_tests_work_beside_images_pinned_by_digest(
    env_file: Path, tmp_path: Path
) -> None:
    pinned = tmp_path / "docker-compose.yml"
    digest = "@sha256:" + "0" * 64
    pinned.write_text(
        re.sub(r"^(    image: [^$\s]+:\S+)$", rf"\1{digest}", FILE.read_text(), flags=re.MULTILINE)
    )
    assert pinned.read_text().count(digest) == 5
    files = ["--file", str(pinned), "--file", str(STANDINS / "compose.yml")]
    command = [*compose_command(), *files, "--env-file", str(env_file), "config"]
    services = yaml.safe_load(run(*command, environment={"COMPOSE_PROFILES": "demo"}))["services"]
    built = {name: service["image"] for name, service in services.items() if "build" in service}
    assert {"database", "balancer", "prometheus", "alertmanager"} <= set(built)
    assert {name: image for name, image in built.items() if not image.startswith("botfarm")} == {}


def test_without_the_demo_there_are_neither_its_users_nor_those_who_take_them(env_file: Path) -> None:
    with_it = set(config(env_file, "--services").stdout.split())
    env_file.write_text(env_file.read_text().replace("COMPOSE_PROFILES=demo\n", ""))
    assert with_it - set(config(env_file, "--services").stdout.split()) == {
        "demo",
        "runners",
        "shop",
        "keeper",
    }
    assert config(env_file, "--quiet").returncode == 0


def test_the_api_believes_the_balancer_alone_whatever_the_network(env_file: Path) -> None:
    for network in ("10.213.77", "192.168.44"):
        document = yaml.safe_load(config(env_file).stdout)
        services = document["services"]
        trusted = services["api"]["environment"]["BOTFARM_TRUSTED_PROXIES"]
        trusted, others = trusted.split(",")
        assert trusted == services["balancer"]["networks"]["default"]["ipv4_address"] == f"{network}.2"
        assert others == ""
        (addresses,) = document["networks"]["default"]["ipam"]["config"]
        assert ip_address(trusted) in ip_network(addresses["subnet"])
        assert ip_address(trusted) not in ip_network(addresses["ip_range"]), "another container may get it"
        env_file.write_text(env_file.read_text() + "BOTFARM_NETWORK=192.168.44\n")


def test_proxies_before_the_front_proxy_can_be_named(env_file: Path) -> None:
    env_file.write_text(env_file.read_text() + "BOTFARM_TRUSTED_PROXIES=10.1.2.3,203.0.113.0/24\n")
    services = yaml.safe_load(config(env_file).stdout)["services"]
    trusted = services["api"]["environment"]["BOTFARM_TRUSTED_PROXIES"]
    assert trusted == "10.213.77.2,10.1.2.3,203.0.113.0/24"


def test_the_worker_gets_no_key_and_no_token(env_file: Path) -> None:
    services = yaml.safe_load(config(env_file).stdout)["services"]
    assert set(services["worker"]["environment"]) == {"BOTFARM_DATABASE_URL"}
    assert set(services["migrate"]["environment"]) == {"BOTFARM_DATABASE_URL", "BOTFARM_OWNER_URL"}


def test_only_the_migration_and_the_database_itself_know_the_owners_password(env_file: Path) -> None:
    services = yaml.safe_load(config(env_file).stdout)["services"]
    password = secret_in(env_file, "POSTGRES_PASSWORD")
    assert {name for name, service in services.items() if password in str(service)} == {"migrate", "database"}
    urls = {
        services[name]["environment"]["BOTFARM_DATABASE_URL"] for name in ("api", "worker", "demo", "migrate")
    }
    app_password = secret_in(env_file, "POSTGRES_APP_PASSWORD")
    assert urls == {f"postgresql://botfarm_app:{app_password}@database:5432/botfarm"}


def test_only_the_api_has_the_bootstrap_token(env_file: Path) -> None:
    services = yaml.safe_load(config(env_file).stdout)["services"]
    token = secret_in(env_file, "BOTFARM_BOOTSTRAP_TOKEN")
    assert {name for name, service in services.items() if token in str(service)} == {"api"}


def test_what_a_file_of_an_older_version_lacks_is_added_and_the_rest_is_kept(env_file: Path) -> None:
    made = env_file.read_text()
    older = re.sub(r"^POSTGRES_APP_PASSWORD=.*\n", "", made, flags=re.MULTILINE).rstrip("\n")
    env_file.write_text(older)
    for _ in range(2):
        run("sh", str(env_file.parent / "deploy/env.sh"))
        assert env_file.read_text().startswith(f"{older}\n")
        assert env_file.read_text().count("POSTGRES_APP_PASSWORD=") == 1
    assert config(env_file, "--quiet").returncode == 0


def secret_in(env_file: Path, name: str) -> str:
    found = re.search(rf"^{name}=(.+)$", env_file.read_text(), re.MULTILINE)
    assert found
    return found[1]
