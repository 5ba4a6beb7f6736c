"""Puts a built site beside those of earlier versions: `python -m website.versions SITE FOLDER VERSION`.

FOLDER is what a web server shows: a folder for each version, `latest` with the newest one that is no pre-release,
`index.html` that leads there, and `versions.json`, from which the theme makes its list.
"""

import argparse
import json
import re
import shutil
from pathlib import Path

LATEST = "latest"
START = f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="refresh" content="0; url={LATEST}/">
<title>botfarm</title>
<a href="{LATEST}/">botfarm</a>
</html>
"""
VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)([a-z0-9.+-]*)")


def put(site: Path, folder: Path, version: str) -> None:
    """A version that is there already is replaced."""
    _order(version)  # refuses what is none
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / version, site)
    versions = sorted((path.name for path in folder.iterdir() if VERSION.fullmatch(path.name)), key=_order)
    latest = max(versions, key=lambda name: (_is_final(name), _order(name)))
    if latest == version:
        _replace(folder / LATEST, site)
    entries = [
        {"version": name, "title": name, "aliases": [LATEST] if name == latest else []}
        for name in reversed(versions)
    ]
    (folder / "versions.json").write_text(json.dumps(entries, indent=2) + "\n")
    (folder / "index.html").write_text(START)
    (folder / ".nojekyll").touch()  # GitHub Pages shows the files as they are


def _order(version: str) -> tuple[int, int, int, bool, str]:
    """Pre-releases, such as 1.0.0rc1, come before their release."""
    found = VERSION.fullmatch(version)
    if found is None:
        raise SystemExit(f"{version}: not a version such as 1.2.3 or 1.2.3rc1")
    major, minor, patch, suffix = found.groups()
    return int(major), int(minor), int(patch), suffix == "", suffix


def _is_final(version: str) -> bool:
    return _order(version)[3]


def _replace(folder: Path, site: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(site, folder)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m website.versions", description=__doc__)
    parser.add_argument("site", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("version")
    arguments = parser.parse_args()
    put(arguments.site, arguments.folder, arguments.version)


if __name__ == "__main__":
    main()
