"""Writes the tables and plots of docs/performance.md from a result file, so that they cannot drift from it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .goals import goals
from .python_proxy import PYTHON
from .records import FORMAT, Document, cell
from .site import HERE
from .tables import TABLES, others, tables

ROOT = HERE.parent
PAGE = ROOT / "docs" / "performance.md"
IMAGES = ROOT / "docs" / "images"
BUSY = 0.1  # cores: more of them at work for others, and latencies say more of those than of the subjects
PRELIMINARY = " **Preliminary: the machine was busy with other work; above all times are not to be relied on.**"
MARKED = re.compile(r"<!-- figures: (?P<name>[a-z0-9]+) -->\n.*?<!-- end -->", re.DOTALL)


class MissingError(Exception):
    """The result file, a marker or matplotlib is not as needed; the text says which and what to do."""


def read(path: Path) -> Document:
    """
    Raises:
        MissingError: There is no such file, or it is not of this format.
    """
    try:
        document: Document = json.loads(path.read_text())
    except (OSError, ValueError) as problem:
        raise MissingError(f"cannot read {path}: {problem}") from None
    if document.get("format") != FORMAT:
        raise MissingError(f"{path} is not of format {FORMAT}; run compare.py again")
    return document


def merged(documents: Sequence[Document]) -> Document:
    """The first result with the scenarios that the others have instead of its own, or beside them."""
    scenarios = {name: each for document in documents for name, each in document["scenarios"].items()}
    return {**documents[0], "scenarios": scenarios}


def run_of(document: Document, source: str, names: Sequence[str] = ()) -> str:
    """The sentence that says where the figures come from; of the scenarios of these names, if not of all."""
    about, options = document["surroundings"], document["options"]
    versions = {name: str(version) for name, version in about["versions"].items()}
    if "envoy" in versions:
        versions["envoy"] = next((part for part in versions["envoy"].split("/") if "." in part), versions["envoy"])
    said = ", ".join(
        f"{name} {version.removeprefix(f'{name}, version ').removeprefix(f'{name} ').split(' [')[0]}"
        for name, version in versions.items()
    )
    busy = others(document)
    warning = PRELIMINARY if busy is not None and busy.median > BUSY else ""
    minutes = sum(each["seconds"] for each in document["scenarios"].values()) / 60
    which = f" ({', '.join(f'`{name}`' for name in names)})" if names else ""
    return (
        f"`{source}`{which}: {about['when']}, commit `{about['commit']}`, up to {options['rounds']} rounds of "
        f"{options['seconds']:g} s, {minutes:.0f} minutes in all; {about['cores']} cores ({about['cpu']}; "
        f"virtual: {about['virtual']}), Linux {about['kernel']}, Python {about['python']}; {said}. "
        f"Cores kept busy by others meanwhile: {cell(busy, 2)}.{warning}"
    )


def fill(page: str, documents: Sequence[tuple[str, Document]]) -> str:
    """
    Put the tables of results between the markers of a page.

    Args:
        page: The page as it is.
        documents: Each with its file's name; of a scenario that several have, the last counts.

    Raises:
        MissingError: A scenario of the result has no marker, or a marker names none.
    """
    document = merged([each for _, each in documents])
    of = {name: source for source, each in documents for name in each["scenarios"]}
    runs = [
        run_of(each, source, [name for name in each["scenarios"] if of[name] == source] if len(documents) > 1 else ())
        for source, each in documents
    ]
    parts = {"run": "\n\n".join(runs), "goals": goals(document)}
    parts |= {name: tables(document, name) for name in TABLES}
    found = [match["name"] for match in MARKED.finditer(page)]
    for name in (*parts, *found):
        if found.count(name) != 1 or name not in parts:
            raise MissingError(f"expected one marker `<!-- figures: {name} -->` for each of {', '.join(parts)}")

    def filled(match: re.Match[str]) -> str:
        return f"<!-- figures: {match['name']} -->\n\n{parts[match['name']]}\n\n<!-- end -->"

    return MARKED.sub(filled, page)


def write_page(results: Sequence[Path]) -> list[Path]:
    """
    Write the page, and its plots of the first result; gives what was written.

    Raises:
        MissingError: Something is missing; nothing was written.
    """
    documents = [(os.path.relpath(result.resolve(), ROOT), read(result)) for result in results]
    page = fill(PAGE.read_text(), documents)
    if not os.access(PYTHON, os.X_OK):
        raise MissingError(f"no {PYTHON}, which draws the plots; make bench sets it up")
    done = subprocess.run(
        [str(PYTHON), str(HERE / "plots.py"), str(results[0]), str(IMAGES)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise MissingError(
            f"plots.py ended with code {done.returncode} (make bench sets up matplotlib):\n{done.stderr}"
        )
    PAGE.write_text(page)
    return [PAGE, *(Path(line) for line in done.stdout.splitlines())]
