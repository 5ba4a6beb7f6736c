"""What a reader would run into fails the build, with the page and the line."""

import re
import shutil
from pathlib import Path

import pytest

from website.building import CHECKOUT, BadSiteError, build
from website.staging import Source, stage

HERE = Source(repository=None, ref="main")
CONFIGURATION = (CHECKOUT / "website/zensical.toml").read_text()


def checkout_in(folder: Path) -> Path:
    """A repository with the theme and the configuration of this one, and two pages of its own."""
    shutil.copytree(CHECKOUT / "website", folder / "website", ignore=shutil.ignore_patterns("__pycache__"))
    navigation = re.sub(
        r"^nav = \[.*?^\]", 'nav = ["index.md", "other.md"]', CONFIGURATION, flags=re.MULTILINE | re.DOTALL
    )
    (folder / "website/zensical.toml").write_text(navigation)
    (folder / "docs").mkdir()
    (folder / "docs/index.md").write_text("# Start\n\n[Other](other.md#a-heading), [self](#start)\n")
    (folder / "docs/other.md").write_text("# Other\n\n## A heading\n")
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return checkout_in(tmp_path / "checkout")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The HTML of a page with what pages have."""
    checkout = checkout_in(tmp_path_factory.mktemp("built") / "checkout")
    add(checkout, "```mermaid\nstateDiagram-v2\n    free --> leased: acquire\n```\n" * 2)
    add(
        checkout,
        "`[a](gone.md)`\n\n```md\n[b](gone.md)\n```\n\n- in a list\n\n    ```md\n    [c](gone.md)\n    ```",
    )
    return (build(checkout, checkout / ".site", HERE) / "other/index.html").read_text()


def add(checkout: Path, text: str) -> None:
    page = checkout / "docs/other.md"
    page.write_text(page.read_text() + "\n" + text + "\n")


def refusal(checkout: Path) -> str:
    with pytest.raises(BadSiteError) as refused:
        build(checkout, checkout / ".site", HERE)
    return str(refused.value)


def test_a_page_loads_nothing_from_elsewhere(page: str) -> None:
    assert "default-src 'self'" in page
    assert "http" not in re.sub(r"http://www.w3.org|http-equiv", "", page)


def test_headings_have_the_anchors_of_the_repositorys_own_view(page: str) -> None:
    assert 'id="a-heading"' in page


def test_links_in_code_are_no_links(page: str) -> None:
    assert "[a](gone.md)</code>" in page
    assert 'href="gone' not in page


def test_a_diagram_is_drawn_and_needs_no_script(page: str) -> None:
    assert page.count('<div class="diagram"><svg') == 2
    first, second = re.findall(r'<svg id="(diagram-\d+)"', page)
    assert first != second
    assert "acquire" in page
    assert "```" not in page


@pytest.mark.parametrize(
    ("planted", "said"),
    [
        ("[gone](gone.md)", "docs/other.md:5: there is no gone.md"),
        ("[gone](index.md#gone)", "docs/other.md:5: index.md has no heading #gone"),
        ("[gone](#gone)", "docs/other.md:5: this page has no heading #gone"),
        ("[gone][]\n\n[gone]: gone.md", "docs/other.md:7: there is no gone.md"),
        ("![gone](gone.png)", "docs/other.md:5: there is no gone.png"),
        ("[gone](../deploy/gone.yml)", "docs/other.md:5: there is no ../deploy/gone.yml"),
        ("[gone](../../outside.md)", "docs/other.md:5: there is no ../../outside.md"),
    ],
)
def test_a_link_that_leads_nowhere_fails_the_build(checkout: Path, planted: str, said: str) -> None:
    add(checkout, planted)
    assert refusal(checkout) == said


def test_links_of_the_readme_are_checked_too(checkout: Path) -> None:
    (checkout / "README.md").write_text("[it](docs/other.md#a-heading), [not](docs/other.md#nor)\n")
    assert refusal(checkout) == "README.md:1: docs/other.md has no heading #nor"


def test_what_only_the_html_shows_fails_the_build(checkout: Path) -> None:
    add(
        checkout,
        '<a href="gone/">gone</a> <a href="./#gone">gone</a> <img src="https://pictures.test/a.png">',
    )
    add(checkout, '<script src="//scripts.test/a.js"></script>')
    add(checkout, "Text\n- meant as a list\n")
    assert refusal(checkout).splitlines() == [
        "other/index.html: loads https://pictures.test/a.png",
        "other/index.html: loads //scripts.test/a.js",
        "other/index.html: no list, because there is no empty line before it: - meant as a list",
        "other/index.html: there is no ../gone/",
        "other/index.html: no anchor of that name: .././#gone",
    ]


def test_zensical_alone_would_also_refuse_a_broken_anchor(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(checkout, "[gone](index.md#gone)")
    monkeypatch.setattr("website.building.dead_links", lambda *_: [])
    assert "anchor does not exist" in refusal(checkout)


def test_a_page_that_no_page_leads_to_fails_the_build(checkout: Path) -> None:
    (checkout / "docs/alone.md").write_text("# Alone\n")
    assert "alone/index.html: no page leads here" in refusal(checkout)


def test_a_link_out_of_docs_leads_into_the_repository_at_that_tag(checkout: Path) -> None:
    (checkout / "LICENSE").touch()
    (checkout / "README.md").write_text("# Try it\n")
    add(checkout, "See [the *licence*](../LICENSE) and [how](../README.md#try-it), [here](index.md).")
    stage(checkout, checkout / ".site", Source("https://git.test/team/farm/", "v1.2.3"))
    assert (
        (checkout / ".site/docs/other.md")
        .read_text()
        .endswith(
            "See [the *licence*](https://git.test/team/farm/blob/v1.2.3/LICENSE) and"
            " [how](https://git.test/team/farm/blob/v1.2.3/README.md#try-it), [here](index.md).\n"
        )
    )


def test_without_an_address_a_link_out_of_docs_is_text(checkout: Path) -> None:
    (checkout / "LICENSE").touch()
    add(checkout, "See [the *licence*](../LICENSE), [here](index.md).")
    stage(checkout, checkout / ".site", HERE)
    assert (checkout / ".site/docs/other.md").read_text().endswith("See the *licence*, [here](index.md).\n")


def test_a_diagram_with_a_mistake_fails_the_build(checkout: Path) -> None:
    add(checkout, "```mermaid\nstateDiagram-v2\n    free --> \n    --> :\n```")
    said = refusal(checkout)
    assert "unexpected statement separator; expected node identifier" in said
    assert "Traceback" not in said


def test_a_page_that_is_gone_leaves_the_folder_of_the_build(checkout: Path) -> None:
    stage(checkout, checkout / ".site", HERE)
    unchanged = (checkout / ".site/docs/index.md").stat().st_mtime_ns
    (checkout / "docs/other.md").unlink()
    stage(checkout, checkout / ".site", HERE)
    assert not (checkout / ".site/docs/other.md").exists()
    assert (checkout / ".site/docs/index.md").stat().st_mtime_ns == unchanged
