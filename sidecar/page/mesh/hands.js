// What hands do to the map: the wheel, a drag, one finger, two fingers. Keys are the map's own.

const STILL = 4; // Pixels that a hand moves that only clicks.
const WHEEL = 0.0016; // Of a pixel that the wheel turned; a pinch on a trackpad comes as a wheel with Ctrl.
const PINCH = 0.01;
const PIXELS = [1, 16, 400]; // Of a unit of the wheel: a pixel, a line, a page.

/**
 * @param svg what is touched
 * @param map {pan(dx, dy), zoom(factor, {x, y})}, in pixels of `svg`
 * @returns {busy()}: whether the map is being moved
 */
export function hands(svg, map) {
  const fingers = new Map(); // By pointer: where it is.
  let far = false; // Whether it is a move by now, and will be no click.

  const inside = ({ x, y }) => {
    const box = svg.getBoundingClientRect();
    return { x: x - box.left, y: y - box.top };
  };

  svg.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const turned = event.deltaY * PIXELS[event.deltaMode];
      map.zoom(Math.exp(-turned * (event.ctrlKey ? PINCH : WHEEL)), inside({ x: event.clientX, y: event.clientY }));
    },
    { passive: false },
  );

  svg.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || fingers.size === 2) return;
    if (!fingers.size) far = false;
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });

  svg.addEventListener("pointermove", (event) => {
    const was = fingers.get(event.pointerId);
    if (!was) return;
    const now = { x: event.clientX, y: event.clientY };
    if (!far && fingers.size === 1 && Math.hypot(now.x - was.x, now.y - was.y) < STILL) return;
    if (!far) {
      far = true;
      svg.classList.add("is-dragged");
    }
    // From here on all of it comes to the map: what the hand leaves behind is not clicked.
    if (!svg.hasPointerCapture(event.pointerId)) svg.setPointerCapture(event.pointerId);
    const before = spread([...fingers.values()]);
    fingers.set(event.pointerId, now);
    const after = spread([...fingers.values()]);
    map.pan(after.middle.x - before.middle.x, after.middle.y - before.middle.y);
    if (before.length > 0 && after.length > 0) map.zoom(after.length / before.length, inside(after.middle));
  });

  const end = (event) => {
    fingers.delete(event.pointerId);
    if (!fingers.size) svg.classList.remove("is-dragged");
  };
  svg.addEventListener("pointerup", end);
  svg.addEventListener("pointercancel", end);
  return { busy: () => fingers.size > 0 && far };
}

/** The middle of one or two fingers, and how far apart they are. */
function spread([a, b = a]) {
  return { middle: { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 }, length: Math.hypot(a.x - b.x, a.y - b.y) };
}
