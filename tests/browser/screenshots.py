"""
The pictures of the page in the documentation: `make screenshots` writes them anew.

A mesh of seven services, as `tests/support/mesh_fixture.py` makes it, in both colour schemes; in the dark one with a
call that hurts chosen; and in the window of a telephone.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.support.chromium import chromium
from tests.support.mesh_fixture import shop
from tests.support.mesh_page import serving

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
CALL = '#edge=["storefront","recommendations"]'
PICTURES = (
    ("mesh-map-light", "light", (1440, 860), ""),
    ("mesh-map-dark", "dark", (1440, 860), CALL),
    ("mesh-map-phone", "light", (390, 844), ""),
)


def main() -> None:
    """Write all of `PICTURES`."""
    with tempfile.TemporaryDirectory() as directory, chromium(Path(directory)) as browser, serving(shop()) as page:
        for name, scheme, size, chosen in PICTURES:
            with browser.tab() as tab:
                tab.size(*size)
                # The minutes of the time line are those of the reader's clock.
                tab.send("Emulation.setTimezoneOverride", timezoneId="UTC")
                tab.prefer(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
                tab.open(page.url + chosen)
                ready = "document.querySelector('.routes')" if chosen else "document.querySelector('.rollout')"
                tab.wait(f"{ready} !== null && document.querySelector('.charts') !== null")
                # What changes from one minute to the next would make each picture another file.
                tab.run("document.querySelector('.fresh').textContent = 'live · 12:00:00'")
                target = IMAGES / f"{name}.png"
                tab.picture(target)
                sys.stdout.write(f"{target.relative_to(IMAGES.parents[1])}: {target.stat().st_size // 1024} KiB\n")


if __name__ == "__main__":
    main()
