"""
The pictures of the pages in the documentation: `make screenshots` writes them anew.

A mesh of seven services, as `tests/support/mesh_fixture.py` makes it, in both colour schemes; in the dark one with a
call that hurts chosen; and in the window of a telephone. One sidecar, as `tests/support/sidecar_fixture.py` makes it,
with a request explained, and, in the dark scheme, with the preview of a file.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.support.chromium import Chromium, Tab, chromium
from tests.support.mesh_fixture import shop
from tests.support.mesh_page import serving
from tests.support.sidecar_page import SidecarPage, serving_sidecar

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
CALL = '#edge=["storefront","recommendations"]'
MESH = (
    ("mesh-map-light", "light", (1440, 860), ""),
    ("mesh-map-dark", "dark", (1440, 860), CALL),
    ("mesh-map-phone", "light", (390, 844), ""),
)
SIDECAR = (("sidecar-page-light", "light", False), ("sidecar-page-dark", "dark", True))
DROP = """(() => {
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File(['a: b'], 'next.yaml'));
  document.body.dispatchEvent(new DragEvent('drop', {dataTransfer, bubbles: true, cancelable: true}));
})()"""


def main() -> None:
    """Write all of `MESH` and `SIDECAR`."""
    with tempfile.TemporaryDirectory() as directory, chromium(Path(directory)) as browser:
        of_mesh(browser)
        of_sidecar(browser)


def of_mesh(browser: Chromium) -> None:
    """The map."""
    with serving(shop()) as page:
        for name, scheme, size, chosen in MESH:
            with browser.tab() as tab:
                prepare(tab, scheme, size)
                tab.open(page.url + chosen)
                ready = "document.querySelector('.routes')" if chosen else "document.querySelector('.rollout')"
                tab.wait(f"{ready} !== null && document.querySelector('.charts') !== null")
                take(tab, name)


def of_sidecar(browser: Chromium) -> None:
    """The page of one sidecar."""
    with serving_sidecar(SidecarPage()) as page:
        for name, scheme, has_file in SIDECAR:
            with browser.tab() as tab:
                prepare(tab, scheme, (1440, 1400))
                # The day of the fixture, which shows times of another with their date.
                tab.send("Page.addScriptToEvaluateOnNewDocument", source=TODAY)
                tab.open(page.url)
                tab.wait("document.querySelectorAll('#requests tbody tr').length === 5")
                if has_file:
                    tab.run(DROP)
                    tab.wait("document.querySelector('#preview .outcome') !== null")
                else:
                    tab.click("#requests tbody tr .link")
                    tab.wait("document.querySelector('#explain .outcome') !== null")
                # Rates of the whole window, so that rounding is all that differs from one picture to the next.
                tab.wait("new Promise((done) => setTimeout(() => done(true), 11000))")
                tab.run("document.activeElement.blur()")
                for part in ("main", "desk"):
                    tab.run(f"document.getElementById('{part}').scrollTo(0, 0)")
                take(tab, name)


TODAY = """{
  const now = Date.now;
  const ahead = Date.parse('2026-03-01T12:00:00Z') - now();
  const Real = Date;
  window.Date = class extends Real {
    constructor(...given) { given.length ? super(...given) : super(now() + ahead); }
    static now() { return now() + ahead; }
  };
}"""


def prepare(tab: Tab, scheme: str, size: tuple[int, int]) -> None:
    """A window in which nothing depends on who looks."""
    tab.size(*size)
    # Minutes and hours are those of the reader's clock.
    tab.send("Emulation.setTimezoneOverride", timezoneId="UTC")
    tab.prefer(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")


def take(tab: Tab, name: str) -> None:
    """The picture, without what changes from one minute to the next: that would make each another file."""
    tab.run("document.querySelector('.fresh').textContent = 'live · 12:00:00'")
    target = IMAGES / f"{name}.png"
    tab.picture(target)
    sys.stdout.write(f"{target.relative_to(IMAGES.parents[1])}: {target.stat().st_size // 1024} KiB\n")


if __name__ == "__main__":
    main()
