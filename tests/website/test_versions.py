"""Each release adds its pages to those of the earlier ones."""

import json
from pathlib import Path

import pytest

from website.versions import put


def site_of(folder: Path, text: str) -> Path:
    site = folder / f"site {text}"
    site.mkdir()
    (site / "index.html").write_text(text)
    return site


def released(folder: Path, *versions: str) -> Path:
    for version in versions:
        put(site_of(folder, version), folder / "public", version)
    return folder / "public"


def listed(public: Path) -> list[tuple[str, list[str]]]:
    return [
        (entry["version"], entry["aliases"]) for entry in json.loads((public / "versions.json").read_text())
    ]


def test_the_newest_release_is_the_latest_and_comes_first(tmp_path: Path) -> None:
    public = released(tmp_path, "0.9.0", "0.10.0")
    assert listed(public) == [("0.10.0", ["latest"]), ("0.9.0", [])]
    assert (public / "latest/index.html").read_text() == "0.10.0"
    assert (public / "0.9.0/index.html").read_text() == "0.9.0"
    assert 'url=latest/"' in (public / "index.html").read_text()


def test_a_fix_of_an_older_release_does_not_become_the_latest(tmp_path: Path) -> None:
    public = released(tmp_path, "1.0.0", "0.9.1")
    assert listed(public) == [("1.0.0", ["latest"]), ("0.9.1", [])]
    assert (public / "latest/index.html").read_text() == "1.0.0"


def test_a_pre_release_is_the_latest_only_while_there_is_no_release(tmp_path: Path) -> None:
    public = released(tmp_path, "1.0.0rc1")
    assert (public / "latest/index.html").read_text() == "1.0.0rc1"
    released(tmp_path, "1.0.0", "2.0.0rc1")
    assert listed(public) == [("2.0.0rc1", []), ("1.0.0", ["latest"]), ("1.0.0rc1", [])]
    assert (public / "latest/index.html").read_text() == "1.0.0"


def test_a_version_that_is_released_again_replaces_its_pages(tmp_path: Path) -> None:
    public = released(tmp_path, "1.0.0")
    (public / "1.0.0/left-over.html").touch()
    put(site_of(tmp_path, "again"), public, "1.0.0")
    assert [path.name for path in (public / "1.0.0").iterdir()] == ["index.html"]
    assert (public / "latest/index.html").read_text() == "again"


@pytest.mark.parametrize("name", ["v1.0.0", "main", "../1.0.0", "1.0.0/../2", "1.0"])
def test_what_is_no_version_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SystemExit, match="not a version"):
        put(site_of(tmp_path, "any"), tmp_path / "public", name)
    assert not (tmp_path / "public").exists()
