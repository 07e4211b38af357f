// Descriptions of elements, and the one place that brings a document in line with them. Elements stay: a text that
// changed is changed in its node, so that nothing flickers, and focus, selection and scrolling are kept.
//
// Everything that comes from the mesh gets here as text, and leaves as `Text.data` or as the value of an attribute that
// cannot run: there is no way from here to markup, and the page's content security policy forbids the others.

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "g", "path", "rect", "circle", "text", "tspan", "line", "title"]);
// Attributes that are properties of the element: what a person typed or opened changes these, not the attributes.
const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "open"]);
const ATTRIBUTE =
  /^(aria-[a-z]+|data-[a-z-]+|class|id|role|tabindex|type|name|for|title|scope|colspan|autocomplete|placeholder|spellcheck|rows|accept|viewBox|preserveAspectRatio|width|height|x|y|x1|y1|x2|y2|cx|cy|r|rx|d|transform|dx|dy|focusable)$/;

/**
 * What an element should be.
 * @param tag a tag of HTML or SVG
 * @param props `key` (which element of its kind it is, whatever its place), `on` (event -> handler), attributes;
 *   null, undefined and false leave an attribute out; `at` ([x, y], pixels) is where an element of a drawing stands
 * @param children descriptions, texts, numbers, lists of these; null and false are nothing
 */
export function h(tag, props, ...children) {
  return { tag, props: props || {}, key: props && props.key !== undefined ? String(props.key) : null, children };
}

/** Make the children of `parent` what `children` say, with as few changes as that takes. */
export function patch(parent, children) {
  const focused = document.activeElement;
  patchChildren(parent, children);
  // An element that was moved among its neighbours loses the focus.
  if (focused && focused !== document.activeElement && focused.isConnected && focused !== document.body) {
    focused.focus({ preventScroll: true });
  }
}

/** The element's text becomes `text`, if it is another. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function patchChildren(parent, children) {
  const wanted = flat(children, []);
  const keyed = new Map();
  const others = [];
  for (const node of parent.childNodes) {
    if (node.sidecarKey !== undefined && node.sidecarKey !== null) keyed.set(node.sidecarKey, node);
    else others.push(node);
  }
  const used = new Set();
  let next = 0;
  const nodes = wanted.map((child) => {
    let node = null;
    if (typeof child !== "string" && child.key !== null) {
      node = keyed.get(child.key) || null;
      if (node && (used.has(node) || !fits(node, child))) node = null;
    } else {
      while (next < others.length && !fits(others[next], child)) next += 1;
      if (next < others.length) node = others[next++];
    }
    node = node || create(child, parent);
    used.add(node);
    if (typeof child === "string") {
      if (node.data !== child) node.data = child;
    } else {
      update(node, child);
    }
    return node;
  });
  for (const node of [...parent.childNodes]) if (!used.has(node)) node.remove();
  nodes.forEach((node, index) => {
    const there = parent.childNodes[index];
    if (there !== node) parent.insertBefore(node, there || null);
  });
}

function flat(children, into) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) flat(child, into);
    else into.push(typeof child === "object" ? child : String(child));
  }
  return into;
}

function fits(node, child) {
  if (typeof child === "string") return node.nodeType === Node.TEXT_NODE;
  return node.nodeType === Node.ELEMENT_NODE && node.localName === child.tag;
}

function create(child, parent) {
  if (typeof child === "string") return document.createTextNode(child);
  // `title` is in both languages: in a drawing it belongs to the drawing.
  const svg = child.tag === "title" ? parent.namespaceURI === SVG : SVG_TAGS.has(child.tag);
  const node = svg ? document.createElementNS(SVG, child.tag) : document.createElement(child.tag);
  node.sidecarKey = child.key;
  node.sidecarProps = {};
  return node;
}

function update(node, child) {
  const before = node.sidecarProps || {};
  const { props } = child;
  for (const name of Object.keys(before)) {
    if (!(name in props)) setProp(node, name, null, before[name]);
  }
  for (const name of Object.keys(props)) {
    if (props[name] !== before[name] || PROPERTIES.has(name)) setProp(node, name, props[name], before[name]);
  }
  node.sidecarProps = props;
  patchChildren(node, child.children);
}

function setProp(node, name, value, before) {
  if (name === "key") return;
  if (name === "on") {
    for (const event of Object.keys({ ...(before || {}), ...(value || {}) })) {
      node[`sidecar_${event}`] = value ? value[event] : undefined;
      if (!(before && event in before)) node.addEventListener(event, dispatch);
    }
    return;
  }
  if (name === "at") {
    // Not the attribute `transform`: a move of a property can be shown as one.
    const wanted = value ? `translate(${value[0]}px, ${value[1]}px)` : "";
    if (node.style.transform !== wanted) node.style.transform = wanted;
    return;
  }
  if (PROPERTIES.has(name)) {
    const wanted = typeof node[name] === "boolean" ? Boolean(value) : (value ?? "");
    if (node[name] !== wanted) node[name] = wanted;
    return;
  }
  if (!ATTRIBUTE.test(name)) throw new Error(`no attribute of ours: ${name}`);
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else node.setAttribute(name, value === true ? "" : String(value));
}

// Once an element, whatever its handlers become.
function dispatch(event) {
  const handler = event.currentTarget[`sidecar_${event.type}`];
  if (handler) handler(event);
}
