// The page of one sidecar: asks, keeps what it knew, and shows it.
//
// One state, and one function that makes the whole page of it; `dom.js` changes what differs. What it asks: who the sidecar
// is, its metrics, its upstreams and its recent requests every two seconds, its routes every five, its configuration when
// that is another one; each of them more seldom where it takes the sidecar long, and nothing while the page is hidden.

import { Question } from "./asking.js";
import { Unreachable, answer, ask } from "./client.js";
import { configSheet } from "./config.js";
import { patch, setText } from "./dom.js";
import { EMPTY, explainSheet, questionOf, questionOfRequest, readExplained, titleOfForm } from "./explain.js";
import { many } from "./format.js";
import { appSheet, banners, note, titleOf, tools, top, troublesOf } from "./frame.js";
import { previewSheet, questionOfFile, readPreview, whyNot } from "./preview.js";
import { Scrapes, readScrape } from "./rates.js";
import { requestRows, requestsSheet } from "./requests.js";
import { isLike, routesSheet, rowsOf } from "./routes.js";
import { isLikeUpstream, upstreamRows, upstreamsSheet } from "./upstreams.js";

const OFTEN_MS = 2000;
const ROUTES_MS = 5000;
const SELDOM_MS = 60000; // What is not there now, and may be with the next configuration, which is heard of at once.
const STEP = 100; // Rows that are drawn before somebody asks for more.
const LAST = 20; // The same of requests, below which there is more.
const NEWEST = 200; // Requests that are asked for.
const PREVIEW_MS = 60000;

const at = (id) => document.getElementById(id);

const state = {
  info: null, // The answer of /server_info.
  config: null, // Of /config.
  routes: null,
  upstreams: null,
  requests: null, // Of /requests, or {none: why}.
  reasons: null, // What flags mean.
  flows: null, // Of two scrapes or more.
  error: null, // {why, since (seconds since 1970)}: the sidecar does not answer.
  answered: null,
  search: "",
  found: "",
  shownRoutes: STEP,
  shownUpstreams: STEP,
  shownRequests: LAST,
  isPaused: false,
  onlyFailed: false,
  form: EMPTY,
  explained: null, // {title, pending, why, said}
  chosen: "", // The request that is explained.
  preview: null, // {name, pending, why, said}
  troubles: troublesOf([]),
};
const scrapes = new Scrapes();
let pid = null; // Of the process that the scrapes are of.
let loaded = ""; // Which load /config was asked about.
let explaining = 0;
let previewing = 0;
let wasLost = false;

const on = {
  search: (text) => set({ search: text, shownRoutes: STEP, shownUpstreams: STEP, shownRequests: LAST }),
  moreRoutes: () => set({ shownRoutes: state.shownRoutes + STEP }),
  moreUpstreams: () => set({ shownUpstreams: state.shownUpstreams + STEP }),
  moreRequests: () => set({ shownRequests: NEWEST }),
  showConfig: () => showAnswer("config-title"),
  pause: () => set({ isPaused: !state.isPaused }),
  onlyFailed: () => set({ onlyFailed: !state.onlyFailed }),
  form: (name, value) => set({ form: { ...state.form, [name]: value, error: "" } }),
  explain: () => {
    let question;
    try {
      question = questionOf(state.form);
    } catch (error) {
      set({ form: { ...state.form, error: error.message } });
      at("explain-url").focus();
      return;
    }
    set({ chosen: "" });
    explain(question, titleOfForm(state.form));
  },
  explainRequest: (one) => {
    set({ chosen: String(one.request_id) });
    explain(questionOfRequest(one), `${one.method || ""} ${one.host || ""}${one.path || ""}`.trim());
  },
  closeAnswer: () => {
    explaining += 1;
    set({ explained: null, chosen: "" });
    at("explain-title").focus({ preventScroll: true });
  },
  file: (file) => file && preview(file),
  clearPreview: () => {
    previewing += 1;
    set({ preview: null });
    at("preview-title").focus({ preventScroll: true });
  },
};

function set(change) {
  Object.assign(state, change);
  render();
}

// --- what is shown

function render() {
  const { info, flows } = state;
  const text = state.search.trim().toLowerCase();
  const rows = rowsOf(state.routes, flows);
  const upstreams = upstreamRows(state.upstreams, flows);
  const requests = requestRows(state.requests, text, state.onlyFailed);
  const foundRoutes = text ? rows.filter((row) => isLike(row, text)) : rows;
  const foundUpstreams = text ? upstreams.filter((row) => isLikeUpstream(row, text)) : upstreams;
  const refused = info?.config?.last_load_ok === false || info?.control?.refused ? ["bad"] : [];
  const page = {
    ...state,
    on,
    found: `${many(foundRoutes.length, "route")}, ${many(foundUpstreams.length, "upstream")}, ${many(requests.length, "request")}`,
    troubles: troublesOf([...rows, ...upstreams].map((row) => row.severity).concat(refused)),
  };
  document.title = titleOf(info);
  document.body.classList.toggle("is-lost", Boolean(state.error && info));
  patch(at("top"), top(page));
  patch(at("banners"), banners(page));
  patch(at("tools"), info ? tools(page) : []);
  patch(at("note"), note(page));
  patch(at("app"), appSheet(page));
  patch(at("routes"), info ? routesSheet(page, foundRoutes, state.shownRoutes) : []);
  patch(at("upstreams"), info ? upstreamsSheet(page, foundUpstreams, state.shownUpstreams) : []);
  patch(at("requests"), info ? requestsSheet(page, requests, state.shownRequests) : []);
  patch(at("config"), configSheet(page));
  patch(at("explain"), explainSheet(page));
  patch(at("preview"), previewSheet(page));
  const lost = Boolean(state.error);
  if (lost !== wasLost) setText(at("alarm"), lost ? "The sidecar does not answer." : "The sidecar answers again.");
  wasLost = lost;
}

const say = (words) => setText(at("said"), words);

// --- what is asked again and again

const questions = {
  info: new Question(
    OFTEN_MS,
    () => ask("server_info"),
    (info) => {
      meet(info);
      set({ info, error: null, answered: Date.now() / 1000 });
    },
    { lost: (error) => set({ error: { since: state.error?.since ?? state.answered ?? Date.now() / 1000, why: error.message } }) },
  ),
  metrics: new Question(
    OFTEN_MS,
    async () => ({ at: performance.now() / 1000, text: (await given("metrics", { accept: "text/plain" })).text }),
    (scrape) => {
      scrapes.add(readScrape(scrape.text, scrape.at));
      set({ flows: scrapes.flows() });
    },
  ),
  upstreams: new Question(
    OFTEN_MS,
    () => ask("upstreams"),
    (upstreams) => set({ upstreams }),
  ),
  requests: new Question(
    OFTEN_MS,
    () => (state.isPaused ? null : given(`requests?limit=${NEWEST}`, {}, 404)),
    (told) => {
      if (!told) return; // Held still.
      const requests = told.status === 404 ? { none: noneWord(told.text) } : kept(told.said);
      questions.requests.everyMs = requests.none ? SELDOM_MS : OFTEN_MS;
      set({ requests });
    },
  ),
  routes: new Question(
    ROUTES_MS,
    () => ask("routes"),
    (routes) => set({ routes }),
    // Of a thousand they are a fifth of a second on the event loop, and of them only hits change with time.
    { share: 300 },
  ),
};

/** What is answered with 200, or with the other status that is expected. */
async function given(path, options, other = 200) {
  const told = await answer(path, options);
  if (told.status !== 200 && told.status !== other) throw new Unreachable(`it answers ${told.status}`);
  return told;
}

function kept(said) {
  if (!said || typeof said !== "object") throw new Unreachable("its answer is no JSON");
  return said.keep === 0 ? { none: "Not kept: the configuration keeps none (telemetry.recent_requests)." } : said;
}

/** A sidecar that has no such endpoint is an older one; else it says itself why it keeps none. */
function noneWord(text) {
  return /no such endpoint/.test(text)
    ? "Not kept: this release of the sidecar keeps no recent requests."
    : `Not kept. ${text.trim().slice(0, 300)}`;
}

/** Counters of another process begin anew, and another configuration has other routes. */
function meet(info) {
  if (pid !== null && info.pid !== pid) {
    scrapes.forget();
    state.flows = null;
  }
  pid = info.pid;
  const { hash, generation, last_load_ok: isOk, last_load_at: when, loaded_at: since, retries } = info.config || {};
  const load = JSON.stringify([info.pid, hash, generation, isOk, when, since, retries]);
  if (load === loaded) return;
  const isFirst = !loaded;
  loaded = load;
  ask("config").then(
    (config) => set({ config }),
    () => (loaded = ""), // It is asked for again with the next look.
  );
  // At first they are asked for with it.
  if (!isFirst) for (const name of ["routes", "upstreams", "requests"]) questions[name].ask();
}

function askAll() {
  for (const question of Object.values(questions)) question.ask();
}

// --- what a person asks

async function explain(question, title) {
  explaining += 1;
  const mine = explaining;
  set({ explained: { title, pending: true } });
  showAnswer("answer-title");
  let told;
  try {
    told = readExplained(await answer(question));
  } catch (error) {
    told = { why: error.message };
  }
  if (mine !== explaining) return;
  set({ explained: { title, ...told } });
  say(told.why ? `No explanation: ${told.why}` : `Explanation of ${title}`);
}

async function preview(file) {
  previewing += 1;
  const mine = previewing;
  const name = file.name || "a file";
  const why = whyNot(file);
  set({ preview: why ? { name, why } : { name, pending: true } });
  showAnswer("report-title");
  if (why) return;
  let told;
  try {
    told = readPreview(await answer(questionOfFile(name), { method: "POST", body: file, type: "application/yaml", limitMs: PREVIEW_MS }));
  } catch (error) {
    told = { why: error.message };
  }
  if (mine !== previewing) return;
  set({ preview: { name, ...told } });
  say(told.why ? `No preview: ${told.why}` : `Preview of ${name}`);
}

/** What was asked for is brought into view, and the keyboard there. */
function showAnswer(id) {
  at(id).scrollIntoView({ block: "nearest" });
  at(id).focus({ preventScroll: true });
}

// --- keys, files that are dropped, and the window

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "Escape") {
    if (event.target.id === "search" || (!typing && state.search)) on.search("");
    else if (!typing && state.explained) on.closeAnswer();
    else return;
    event.preventDefault();
  } else if (event.key === "/" && !typing) {
    event.preventDefault();
    at("search")?.focus();
  }
});

at("tools").addEventListener("submit", (event) => event.preventDefault());

const hasFile = (event) => [...(event.dataTransfer?.types || [])].includes("Files");

document.addEventListener("dragover", (event) => {
  if (!hasFile(event)) return;
  event.preventDefault();
  at("drop").hidden = false;
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) at("drop").hidden = true;
});
document.addEventListener("drop", (event) => {
  at("drop").hidden = true;
  if (!hasFile(event)) return;
  event.preventDefault(); // Or the browser would go to the file.
  on.file(event.dataTransfer.files[0]);
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) askAll();
});

render();
askAll();
ask("page/reasons.json").then(
  (reasons) => set({ reasons }),
  () => {}, // Flags are told without their words then.
);
