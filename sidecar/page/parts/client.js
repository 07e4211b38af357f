// Questions to the control plane: same origin, with a bearer token where it asks for one.

const TOKEN = "sidecar.token";
const TIMEOUT_MS = 10000;

export class Unauthorized extends Error {}
export class Unreachable extends Error {}

/** The token of this tab, or "". It is kept until the tab is closed, and never put into an address. */
export function token() {
  try {
    return sessionStorage.getItem(TOKEN) || "";
  } catch {
    return kept;
  }
}

let kept = ""; // Where the browser gives a page no storage.

export function setToken(text) {
  kept = text;
  try {
    if (text) sessionStorage.setItem(TOKEN, text);
    else sessionStorage.removeItem(TOKEN);
  } catch {
    // The token lives as long as the page then.
  }
}

/** Whether the text can stand in a header field at all (RFC 6750, 2.1: b64token). */
export function isToken(text) {
  return /^[A-Za-z0-9._~+/-]+=*$/.test(text);
}

/**
 * @returns the JSON of a 200
 * @throws Unauthorized 401 or 403
 * @throws Unreachable all else: no answer, an answer that is no JSON, another status; the message says which
 */
export async function ask(path) {
  const { status, said } = await answer(path);
  if (status === 401 || status === 403) throw new Unauthorized(String(status));
  if (status < 200 || status > 299) throw new Unreachable(`it answers ${status}`);
  if (said === undefined) throw new Unreachable("its answer is no JSON");
  if (typeof said !== "object" || said === null) throw new Unreachable("its answer is no object");
  return said;
}

/**
 * What is answered, whatever the status.
 * @param options method, body; `type` of the body; `limitMs`, within which there must be an answer; `accept`
 * @returns {status, text, said}: said is undefined where the text is no JSON
 * @throws Unreachable no answer
 */
export async function answer(path, options = {}) {
  const { method = "GET", body, type, limitMs = TIMEOUT_MS, accept = "application/json" } = options;
  const headers = { accept };
  if (type) headers["content-type"] = type;
  if (token()) headers.authorization = `Bearer ${token()}`;
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), limitMs);
  try {
    const given = await fetch(path, {
      method,
      body,
      headers,
      signal: limit.signal,
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
    });
    const text = await given.text();
    return { status: given.status, text, said: parsed(text) };
  } catch (error) {
    if (error.name === "AbortError") throw new Unreachable(`no answer within ${limitMs / 1000} s`);
    throw new Unreachable("no connection");
  } finally {
    clearTimeout(timer);
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
