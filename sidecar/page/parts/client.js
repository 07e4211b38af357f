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
  const headers = { accept: "application/json" };
  if (token()) headers.authorization = `Bearer ${token()}`;
  const limit = new AbortController();
  const timer = setTimeout(() => limit.abort(), TIMEOUT_MS);
  try {
    const answer = await fetch(path, {
      headers,
      signal: limit.signal,
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
    });
    if (answer.status === 401 || answer.status === 403) throw new Unauthorized(String(answer.status));
    if (!answer.ok) throw new Unreachable(`it answers ${answer.status}`);
    const said = await answer.json();
    if (typeof said !== "object" || said === null) throw new Unreachable("its answer is no object");
    return said;
  } catch (error) {
    if (error instanceof Unauthorized || error instanceof Unreachable) throw error;
    if (error.name === "AbortError") throw new Unreachable(`no answer within ${TIMEOUT_MS / 1000} s`);
    throw new Unreachable(error instanceof SyntaxError ? "its answer is no JSON" : "no connection");
  } finally {
    clearTimeout(timer);
  }
}
