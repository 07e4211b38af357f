"""The pages' files: which paths there are, what they are answered with, and what no file of a page contains."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from sidecar import errors
from sidecar.page.files import POLICY, Page, PageFile, page_file

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "sidecar" / "page"
FOLDERS = sorted(path for path in FOLDER.iterdir() if path.is_dir() and path.name != "__pycache__")
SHARED = FOLDER / "parts"
SCRIPTS = sorted(FOLDER.glob("*/*.js"))
TEXTS = sorted([*SCRIPTS, *FOLDER.glob("*/*.html"), *FOLDER.glob("*/*.css")])
MAX_LINES = 550
MAX_FILES = 14

pages = pytest.mark.parametrize("page", Page)


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _given(page: Page, path: str, if_none_match: str = "") -> PageFile:
    found = page_file(page, path, if_none_match)
    assert found is not None
    return found


@pages
def test_page_is_answered_as_html(page: Page) -> None:
    """`/` is the page."""
    status, headers, body = _given(page, "/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert body == (FOLDER / page.value / "index.html").read_bytes()


@pages
def test_page_has_its_own_files_and_the_shared_ones(page: Page) -> None:
    """One set of parts for all pages; what is a page's own has no address on another, and no name is taken twice."""
    own = {path.name for path in (FOLDER / page.value).iterdir()}
    shared = {path.name for path in SHARED.iterdir()}
    assert not own & shared
    for path in TEXTS:
        found = page_file(page, f"/page/{path.name}")
        if path.parent.name in (page.value, SHARED.name) and path.name != "index.html":
            assert found is not None
            assert found[2] == path.read_bytes()
        elif path.name not in own:
            assert found is None


@pages
def test_page_names_files_that_there_are(page: Page) -> None:
    """What the page links to is given."""
    linked = re.findall(r'(?:href|src)="(page/[^"]+)"', _given(page, "/")[2].decode())
    assert {"page/base.css", "page/app.js"} <= set(linked)
    for path in linked:
        assert _given(page, f"/{path}")[0] == 200


@pytest.mark.parametrize("path", SCRIPTS, ids=_name)
def test_modules_are_answered_as_javascript(path: Path) -> None:
    """A browser runs no module of another type, and with `nosniff` guesses none."""
    page = next(page for page in Page if path.parent.name in (page.value, SHARED.name))
    found = _given(page, f"/page/{path.name}")
    assert found[1]["content-type"] == "text/javascript; charset=utf-8"
    assert found[1]["x-content-type-options"] == "nosniff"
    assert found[2] == path.read_bytes()


@pages
@pytest.mark.parametrize("path", ["/", "/page/app.js", "/page/base.css", "/page/reasons.json"])
def test_every_file_carries_the_policy(page: Page, path: str) -> None:
    """Nothing is loaded from elsewhere, no inline script or style runs, no other page may frame this one."""
    found = _given(page, path)
    assert found[1]["content-security-policy"] == POLICY
    rules = {rule.split()[0]: rule.split()[1:] for rule in POLICY.split("; ")}
    assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == ["'none'"]
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == ["'self'"]
    assert "unsafe" not in POLICY


@pytest.mark.parametrize(
    "path",
    ["", "/index.html", "/page/", "/page/files.py", "/page/__init__.py", "/page/../files.py", "/page/%2e%2e/files.py",
     "/page/index.html", "/page/mesh/app.js", "/page/../mesh/app.js", "/page//app.js",
     "/page/app.js/", "/PAGE/app.js", "/page/app.js\0", "/v1/mesh"],
)  # fmt: skip
def test_other_paths_are_not_the_page(path: str) -> None:
    """Only the files that a browser needs have a path; source and what lies elsewhere have none."""
    assert [page_file(page, path) for page in Page] == [None] * len(Page)


def test_copy_that_is_the_newest_is_not_sent_again() -> None:
    """The entity tag that was given is answered with 304, another or none with the file."""
    first = _given(Page.MESH, "/page/app.js")
    tag = first[1]["etag"]
    assert first[1]["cache-control"] == "no-cache"
    for field in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = _given(Page.MESH, "/page/app.js", field)
        assert (again[0], again[2], again[1]["etag"]) == (304, b"", tag)
    for field in ("", '"other"', tag.strip('"')):
        assert _given(Page.MESH, "/page/app.js", field)[0] == 200


def test_reasons_are_the_one_table() -> None:
    """What the page says of a flag is what `docs/errors.md` says."""
    said = json.loads(_given(Page.MESH, "/page/reasons.json")[2])
    assert {flag: {one["text"] for one in rows} for flag, rows in said.items()} == {
        flag: {reason.text for reason in errors.REASONS if reason.flag == flag} for flag in said
    }
    assert set(said) == {reason.flag for reason in errors.REASONS}


@pytest.mark.parametrize("path", TEXTS, ids=_name)
def test_file_names_nobody_else(path: Path) -> None:
    """No address of another machine stands in any file but the name of a language."""
    addresses = re.findall(r"(?:https?:)?//[\w.-]+\.[a-z]+[^\s'\"`]*", path.read_text())
    assert [address for address in addresses if address != "http://www.w3.org/2000/svg"] == []


@pytest.mark.parametrize("path", SCRIPTS, ids=_name)
def test_module_makes_no_markup_from_text(path: Path) -> None:
    """What could run a name as markup or script is not used, so that nobody has to check how."""
    ways = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc|DOMParser"
    assert re.findall(ways + "|createContextualFragment", path.read_text()) == []


@pytest.mark.parametrize("path", SCRIPTS, ids=_name)
def test_module_imports_what_exists_and_uses_it(path: Path) -> None:
    """Every import is of a file of the page, every name of it is exported there and used here."""
    source = path.read_text()
    for names, module in re.findall(r'import \{([^}]+)\} from "\./([^"]+)"', source):
        # A page's own module may use what is shared; what is shared knows no page.
        [other] = [one.read_text() for one in (path.parent / module, SHARED / module) if one.exists()][:1]
        for name in (one.strip() for one in names.split(",") if one.strip()):
            assert re.search(rf"export (?:async )?(?:const|function|class) {name}\b", other), (
                f"{module} exports no {name}"
            )
            assert len(re.findall(rf"\b{name}\b", source)) > 1, f"{name} is not used"
    assert len(re.findall(r"^import ", source, re.MULTILINE)) == len(re.findall(r'\} from "\./', source))


@pytest.mark.parametrize("path", TEXTS, ids=_name)
def test_file_can_be_read_at_one_sitting(path: Path) -> None:
    """As for the Python: a subject a file."""
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_folder_can_be_seen_at_once(folder: Path) -> None:
    """As for the Python: about a dozen files a folder."""
    assert len(list(folder.iterdir())) <= MAX_FILES


def test_package_carries_the_files() -> None:
    """What is installed has the pages: each kind of file is named in the package's data."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["sidecar.page"]
    assert {f"*/*{path.suffix}" for folder in FOLDERS for path in folder.iterdir()} == set(patterns)
