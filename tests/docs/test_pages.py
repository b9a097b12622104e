"""What the pages say is so: their code runs, their links lead somewhere, no setting is missing (W8)."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import PREFIX, Settings
from capabilities.registry import Registry
from capabilities.world import World
from service.intake import admit
from tests.docs.pages import ROOT, RUN, anchors, blocks, links, pages, prose, shown
from tests.docs.session import Session
from tests.model.scripted import Script, calls, model_server, says

WITH_CODE = [page for page in pages() if any(block.language in RUN for block in blocks(page))]
EVERYWHERE = [*pages(), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]


@pytest.fixture(scope="session")
def model_url() -> Iterator[str]:
    """A model for the pages: it looks something up once per question, and answers."""
    with model_server() as url:
        script = Script(url, "my-model")
        script.say_always(calls(("shop_stock", {"item": "rolls"})), says("There are 40 rolls."))
        script.close()
        yield url


@pytest.fixture
def session(tmp_path: Path, postgres_url: str, model_url: str) -> Iterator[Session]:
    """A reader with a clone."""
    reader = Session(tmp_path, postgres_url, model_url)
    reader.prepare()
    yield reader
    reader.stop()


@pytest.mark.parametrize("page", WITH_CODE, ids=shown)
def test_what_a_page_tells_you_to_run_runs(page: Path, session: Session) -> None:
    """W8: every bash, python and JSON block works, in the order of the page, with what the page told you to save."""
    for block in blocks(page):
        if block.language not in RUN and block.name is None:
            continue
        where = f"{shown(page)}:{block.line}"
        if block.language == "json":
            _check_json(block.text, where, saved=block.name is not None)
        try:
            session.do(block)
        except AssertionError as error:
            pytest.fail(f"{where} {error}")


def _check_json(text: str, where: str, *, saved: bool) -> None:
    """A block is JSON, or several on a line each; an envelope is one that a service takes.

    The contract of a saved envelope may name facets that the page has yet to declare.
    """
    whole = text.lstrip().startswith("{\n") or "\n{" not in text
    for value in [json.loads(text)] if whole else map(json.loads, text.splitlines()):
        if isinstance(value, dict) and "objective" in value and not (saved and "facets" in value["output_contract"]):
            assert admit(value, Registry(World())).envelope.objective, where


@pytest.mark.parametrize("page", EVERYWHERE, ids=shown)
def test_links_lead_somewhere(page: Path) -> None:
    """W8: a link into the project names a file that is there, and a heading that is in it."""
    broken = []
    for target in links(page):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (heading and heading not in anchors(file)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", EVERYWHERE, ids=shown)
def test_files_that_are_named_are_there(page: Path) -> None:
    """W8: `engine/machine.py` in a page is a file of the project."""
    named = re.findall(r"`((?:[a-z_]+/)+[\w.]+\.(?:py|md|json|csv|log))`", prose(page))
    assert not [name for name in named if not (ROOT / name).exists()]


def test_every_page_is_found_from_the_index() -> None:
    """W8: the index leads to every page under docs."""
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / target.partition("#")[0]).resolve() for target in links(index)}
    assert not {page for page in (ROOT / "docs").rglob("*.md") if page != index} - linked


def test_every_setting_has_a_row_and_no_other_is_named() -> None:
    """W8: a setting without a description cannot be found; a name that sets nothing misleads."""
    settings = {PREFIX + name.upper() for name in Settings.model_fields}
    table = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    said = "".join(page.read_text(encoding="utf-8") for page in EVERYWHERE)
    assert set(re.findall(r"^\| `(FLEX_\w+)` \|", table, re.MULTILINE)) == settings
    assert set(re.findall(r"\bFLEX_[A-Z_]*[A-Z]\b", said)) <= settings
