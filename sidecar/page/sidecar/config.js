// The state of the configuration: what is in force, since when, and what became of the last change.

import { h } from "./dom.js";
import { many } from "./format.js";
import { sign } from "./marks.js";
import { facts, problems, problemsOf, warnings } from "./parts.js";
import { report } from "./preview.js";
import { timeOf } from "./routes.js";

const list = (value) => (Array.isArray(value) ? value : []);

/** @param page info: the answer of `/server_info`; config: of `/config`, or null */
export function configSheet(page) {
  const { info, config } = page;
  if (!info) return [];
  const said = info.config || {};
  const last = config?.last_load;
  const refused = said.last_load_ok === false;
  return [
    h("h2", { key: "title", id: "config-title", tabindex: "-1" }, "Configuration"),
    facts([
      ["state", refused ? sign("bad", "the last change is refused") : said.hash ? sign("ok", "in force") : sign("idle", "none yet")],
      ["file", said.file || config?.file ? h("code", {}, String(said.file || config.file)) : null],
      ["hash", said.hash ? h("code", {}, String(said.hash)) : null],
      ["in force since", said.loaded_at ? timeOf(said.loaded_at) : null],
      ["from", info.control?.config?.source ? fromWord(info.control.config) : null],
      ["loads", Number.isFinite(said.generation) ? `${many(said.generation, "good load")} since the start` : null],
      ["now", Number.isFinite(said.loading_for_s) ? `loading for ${said.loading_for_s} s` : null],
      ["tries again", Number.isFinite(said.retry_in_s) ? `in ${said.retry_in_s} s` : null],
      ["last load", last ? lastWord(last) : null],
    ]),
    last && last.ok === false && !info.control?.refused ? refusal(last, page.on) : null,
    info.control?.refused ? refusedRevision(info.control.refused) : null,
    last && list(last.warnings).length
      ? h(
          "div",
          { key: "warnings", class: "part" },
          h("h3", {}, "Warnings"),
          warnings(last.warnings),
        )
      : null,
  ];
}

function lastWord(last) {
  const how = last.ok ? "good" : "refused";
  const by = last.trigger ? `, by ${last.trigger}` : "";
  const took = Number.isFinite(last.took_ms) ? `, took ${Math.round(last.took_ms)} ms` : "";
  return `${last.at ? timeOf(last.at) : ""} ${how}${by}${took}`;
}

const SOURCES = { pushed: "the control plane", last_good: "the last good one that was kept", bootstrap: "the bootstrap file" };

function fromWord({ source, revision }) {
  return `${SOURCES[source] || source}${Number.isFinite(revision) && revision ? `, revision ${revision}` : ""}`;
}

function refusedRevision({ revision, crashed, problems: told }) {
  return h(
    "div",
    { key: "revision", class: "part" },
    h("h3", {}, `Revision ${revision} is refused`),
    crashed ? h("p", { class: "why" }, "The process ended at it.") : null,
    list(told).length ? problems(problemsOf(told)) : null,
  );
}

/** Why the last change is not in force; of one that the guard has stopped, what it would have moved. */
function refusal(last, on) {
  const told = problemsOf(last.problems);
  return h(
    "div",
    { key: "refusal", class: "part" },
    h("h3", {}, "The last refusal"),
    last.error ? h("p", { class: "why" }, String(last.error)) : null,
    told.length ? problems(told) : null,
    last.preview ? report(last.preview, on) : null,
  );
}
