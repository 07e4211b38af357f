// A curl command as the request that it makes: what a person has at hand when something surprises. Pure.

// Options of curl that change nothing of the request that the sidecar sees, without and with a value.
const IDLE = new Set(
  "-s --silent -S --show-error -v --verbose -i --include -k --insecure -L --location -N --no-buffer -f --fail --compressed -g --globoff --http1.1 --no-progress-meter -# --progress-bar -4 -6 -j --junk-session-cookies --fail-with-body -O --remote-name".split(" "),
);
const IDLE_WITH = new Set(
  "-o --output -w --write-out -m --max-time --connect-timeout --retry --resolve --cacert --cert --key -E -x --proxy --noproxy --retry-delay --max-redirs -c --cookie-jar --unix-socket --interface --limit-rate".split(" "),
);
const DATA = new Set("-d --data --data-raw --data-binary --data-ascii --data-urlencode --json -F --form".split(" "));

const SCHEME = /^[a-z][a-z0-9+.-]*:[/]{2}/i;

/** What has no scheme is taken for HTTP, as curl does. */
export const withScheme = (url) => (SCHEME.test(url) ? url : `http://${url}`);

/** Whether somebody wrote one. */
export const isCurl = (text) => /^\s*(?:\$\s+)?curl\s/.test(text);

/**
 * @returns {method, url, headers: [[name, value]]}
 * @throws Error it is none that can be read; the message says why
 */
export function readCurl(text) {
  const words = split(text.trim().replace(/^\$\s+/, "").replace(/\\\r?\n/g, " "));
  if (words.shift() !== "curl") throw new Error("a command that begins with curl is expected");
  const made = { method: "", url: "", headers: [] };
  let data = null;
  let asQuery = false;
  const take = (option) => {
    if (!words.length) throw new Error(`${option} needs a value`);
    return words.shift();
  };
  while (words.length) {
    const word = words.shift();
    if (!word.startsWith("-") || word === "-") {
      setUrl(made, word);
      continue;
    }
    const { option, value, more } = parse(word);
    if (more) words.unshift(more);
    const given = () => value ?? take(option);
    if (option === "-X" || option === "--request") made.method = given();
    else if (option === "-H" || option === "--header") addHeader(made, given());
    else if (option === "-b" || option === "--cookie") made.headers.push(["cookie", given()]);
    else if (option === "-A" || option === "--user-agent") made.headers.push(["user-agent", given()]);
    else if (option === "-e" || option === "--referer") made.headers.push(["referer", given()]);
    else if (option === "-I" || option === "--head") made.method = made.method || "HEAD";
    else if (option === "-G" || option === "--get") asQuery = true;
    else if (option === "--url") setUrl(made, given());
    else if (option === "-u" || option === "--user") made.headers.push(["authorization", `Basic ${encoded(given())}`]);
    else if (DATA.has(option)) data = [...(data || []), given()];
    else if (IDLE_WITH.has(option)) given();
    else if (!IDLE.has(option)) throw new Error(`${option} is not understood here; leave it out`);
  }
  if (!made.url) throw new Error("the command has no URL");
  if (asQuery && data) made.url += `${made.url.includes("?") ? "&" : "?"}${data.join("&")}`;
  made.method = made.method || (data && !asQuery ? "POST" : "GET");
  return made;
}

function setUrl(made, word) {
  if (made.url) throw new Error(`one URL is expected, and there are two: ${made.url} and ${word}`);
  made.url = withScheme(word);
}

function addHeader(made, text) {
  const [, name, value] = /^([^:;]+)[:;]\s*(.*)$/.exec(text) || [];
  if (!name) throw new Error(`a header is NAME: VALUE, and this is none: ${text}`);
  made.headers.push([name.trim(), value.trim()]);
}

/** `-XPOST`, `--request=POST` and `-sS` hold more than an option. */
function parse(word) {
  if (word.startsWith("--")) {
    const at = word.indexOf("=");
    return at < 0 ? { option: word } : { option: word.slice(0, at), value: word.slice(at + 1) };
  }
  const option = word.slice(0, 2);
  if (word.length === 2) return { option };
  return IDLE.has(option) || option === "-I" || option === "-G"
    ? { option, more: `-${word.slice(2)}` }
    : { option, value: word.slice(2) };
}

function encoded(text) {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}

/** The words of a command, as a POSIX shell splits them; what a shell would compute (`$x`, `|`, `;`) is refused. */
function split(text) {
  const words = [];
  let word = null;
  for (let i = 0; i < text.length; i += 1) {
    const letter = text[i];
    if (letter === "'") {
      const end = text.indexOf("'", i + 1);
      if (end < 0) throw new Error("a quote ' is open");
      word = (word ?? "") + text.slice(i + 1, end);
      i = end;
    } else if (letter === '"') {
      word = word ?? "";
      for (i += 1; text[i] !== '"'; i += 1) {
        if (i >= text.length) throw new Error('a quote " is open');
        if (text[i] === "\\" && '"\\$`'.includes(text[i + 1])) i += 1;
        else if (text[i] === "$" || text[i] === "`") throw new Error(`${text[i]} within quotes is for a shell to fill in`);
        word += text[i];
      }
    } else if (letter === "\\") {
      i += 1;
      word = (word ?? "") + (text[i] ?? "");
    } else if (/\s/.test(letter)) {
      if (word !== null) words.push(word);
      word = null;
    } else if ("|;<>`$".includes(letter) || (letter === "&" && word === null)) {
      throw new Error(`${letter} is for a shell; the command alone is expected`);
    } else word = (word ?? "") + letter;
  }
  if (word !== null) words.push(word);
  return words;
}
