"""Whether a page can be read by everybody: contrasts, and names for who hears it."""

from __future__ import annotations

from tests.support.chromium import Tab

LUMINANCE = """(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const light = (name) => {
    canvas.fillStyle = getComputedStyle(document.documentElement).getPropertyValue(name);
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((part) => {
      const c = part / 255;
      return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  return (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
})()"""


def poor_contrasts(tab: Tab) -> dict[tuple[str, str], float]:
    """Colours of text with less than 4.5 against a ground that they stand on (WCAG 2.2, 1.4.3), and how much it is."""
    pairs = [(ink, on) for ink in ("--ink", "--soft", "--accent") for on in ("--ground", "--sheet")]
    pairs += [("--bad", on) for on in ("--ground", "--sheet", "--bad-ground")] + [
        ("--warn", on) for on in ("--ground", "--sheet", "--warn-ground", "--bad-ground")
    ]
    pairs += [
        ("--ok", "--sheet"),
        ("--ink", "--bad-ground"),
        ("--soft", "--bad-ground"),
        ("--soft", "--sunk"),
        ("--accent", "--accent-ground"),
    ]
    return {pair: ratio for pair in pairs if (ratio := tab.run(f"{LUMINANCE}('{pair[0]}', '{pair[1]}')")) < 4.5}


def nameless(tab: Tab) -> list[str]:
    """What can be used and has no name for a screen reader, and regions without one."""
    found: list[str] = tab.run(
        "[...document.querySelectorAll("
        "'button, summary, [role=button], input, textarea, [role=slider], aside, section[id]')]"
        ".filter((one) => !one.ariaLabel && !one.textContent.trim() && !one.labels?.length)"
        ".filter((one) => !one.getAttribute('aria-labelledby'))"
        ".map((one) => one.outerHTML)"
    )
    return found


def ids_that_come_twice(tab: Tab) -> list[str]:
    """Of which labels and links would find the first only."""
    found: list[str] = tab.run(
        "[...document.querySelectorAll('[id]')].map((one) => one.id).filter((id, i, all) => all.indexOf(id) !== i)"
    )
    return found


def faint_texts(tab: Tab) -> list[str]:
    """Each text that is drawn with a contrast of less than 4.5 to what lies behind it, as it is drawn now."""
    found: list[str] = tab.run(f"({FAINT})()")
    return found


FAINT = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const over = (colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) {
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
    }
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).map((part) => {
      const c = part / 255;
      return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (one) => {
    const grounds = [];
    for (let it = one; it; it = it.parentElement) grounds.unshift(getComputedStyle(it).backgroundColor);
    return grounds;
  };
  const faint = [];
  for (const one of document.body.querySelectorAll('*')) {
    const text = [...one.childNodes].filter((it) => it.nodeType === 3).map((it) => it.data).join('').trim();
    if (!text || !one.checkVisibility() || one.closest('.unseen, .skip, script, noscript')) continue;
    const grounds = behind(one);
    const [a, b] = [over(grounds), over([...grounds, getComputedStyle(one).color])];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faint.push(`${ratio.toFixed(2)} ${one.className || one.localName}: ${text.slice(0, 40)}`);
  }
  return faint;
}"""
