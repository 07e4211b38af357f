// What a new file would change for the requests that came lately: the file is dropped or chosen, and never kept.

import { h } from "./dom.js";
import { count, many, octets, percent } from "./format.js";
import { sign } from "./marks.js";
import { button, link, problems, problemsOf, section, table, warnings } from "./parts.js";
import { shortPlace } from "./routes.js";
import { settingOf } from "./explanation.js";
import { whyOf } from "./explain.js";

/** Where a file is previewed; its name is what positions show. */
export const questionOfFile = (name) => `preview?${new URLSearchParams({ name })}`;

const list = (value) => (Array.isArray(value) ? value : []);

/** What the sidecar takes at most: nobody writes one of this size, and somebody drops a film by mistake. */
export const MAX_BYTES = 10 * 1024 * 1024;
const SHOWN = 50;

/** Why a file is not even sent, or "". */
export function whyNot(file) {
  if (file.size > MAX_BYTES) return `${file.name} has ${octets(file.size)}; a configuration has ${octets(MAX_BYTES)} at most`;
  return file.size ? "" : `${file.name} is empty`;
}

/** What came of a preview: {said}, or {why} and what there is of a report. */
export function readPreview({ status, said, text }) {
  const isReport = said && typeof said === "object";
  if (status === 200 && isReport) return { said };
  if (status === 404 && !isReport) return { why: "This release of the sidecar makes no previews." };
  if (status === 413) return { why: "The file is larger than the sidecar takes." };
  if (isReport && list(said.problems).length) return { said };
  return { why: whyOf(said, text, status) };
}

/** @param page preview: {name, pending, why, said}, or null */
export function previewSheet(page) {
  const { preview, on } = page;
  return [
    h("h2", { key: "title", id: "preview-title", tabindex: "-1" }, "Preview a change"),
    h(
      "div",
      { key: "drop", class: "dropzone" },
      h("p", {}, "Drop a configuration anywhere on this page: which of the recent requests would go elsewhere? It changes nothing."),
      h(
        "p",
        { class: "acts" },
        h("label", { class: "button", for: "preview-file" }, "Choose a file"),
        h("input", {
          id: "preview-file",
          class: "unseen",
          type: "file",
          accept: ".yaml,.yml,.json,text/*",
          on: {
            change: (event) => {
              on.file(event.target.files[0]);
              event.target.value = ""; // The same file again, when it was edited, is a change too.
            },
          },
        }),
        preview ? button("Clear", on.clearPreview, { class: "button quiet" }) : null,
      ),
    ),
    preview ? h("div", { key: "report", class: "answer" }, ...answer(preview, on)) : null,
  ];
}

function answer({ name, pending, why, said }, on) {
  return [
    h("h3", { key: "name", id: "report-title", tabindex: "-1" }, name),
    pending ? h("p", { key: "pending", class: "empty" }, "Asking …") : null,
    why ? h("p", { key: "why", class: "wrong" }, sign("warn", ""), ` ${why}`) : null,
    said ? report(said, on) : null,
  ];
}

/** @param said the answer of `/preview`, or what a guard has found */
export function report(said, on) {
  const wrong = problemsOf(said.problems);
  if (wrong.length)
    return [h("p", { key: "verdict", class: "outcome is-bad" }, sign("bad", `it would be refused: ${many(wrong.length, "problem")}`)), problems(wrong)];
  return [
    verdict(said),
    groups(list(said.groups), said.groups_left_out || 0, on),
    unknowns(list(said.unknowns)),
    splitChanges(list(said.splits)),
    settingChanges(list(said.settings)),
    list(said.warnings).length ? section("warnings", "Warnings", warnings(said.warnings)) : null,
  ];
}

function verdict({ requests, moved, moved_share: share, unknown, refused, not_found: lost }) {
  const severity = refused ? "bad" : moved || unknown ? "warn" : requests ? "ok" : "idle";
  const text = !requests
    ? "no recent request to try it with"
    : moved
      ? `${count(moved)} of ${many(requests, "recent request")} go elsewhere (${percent(share ?? moved / requests)})`
      : `all of ${many(requests, "recent request")} go where they went`;
  return h(
    "div",
    { key: "verdict", class: `outcome is-${severity}` },
    h("p", { class: "wrap" }, sign(severity, ""), ` ${text}`),
    refused ? h("p", {}, `${many(refused, "request")} would be refused${lost ? `, ${count(lost)} of them for want of a route` : ""}.`) : null,
    unknown ? h("p", {}, `Of ${many(unknown, "request")} it cannot be said: routes look at what is not kept.`) : null,
  );
}

/** Where a request goes or went: its route, and the upstreams, or the answer. */
function endText(end) {
  const to = list(end?.to).length ? list(end.to).join(", ") : [end?.status, end?.flag].filter(Boolean).join(" ");
  return `${end?.route || "no route"}${to ? ` → ${to}` : ""}`;
}

function groups(some, leftOut, on) {
  if (!some.length) return null;
  return section(
    "groups",
    "What moves",
    h(
      "ul",
      { class: "moves" },
      some.slice(0, SHOWN).map((group, i) =>
        h(
          "li",
          { key: i },
          ...moveOf(group),
          example(group.example, group.direction, on),
        ),
      ),
    ),
    some.length + leftOut > SHOWN ? h("p", { class: "hint" }, `and ${some.length + leftOut - SHOWN} more groups`) : null,
  );
}

function moveOf(group) {
  const [from, to] = [endText(group.from), endText(group.to)];
  const times = h("span", { class: "times" }, count(group.count));
  const side = group.direction === "inbound" ? " to the app" : null;
  const place = group.position ? h("code", { class: "place", title: String(group.position) }, ` ${shortPlace(group.position)}`) : null;
  // Of a split whose shares change, a share goes elsewhere, and the ends are as they were.
  if (from === to) return [h("p", {}, times, side, " by other shares of ", h("span", { class: "id" }, from), place)];
  return [
    h("p", {}, times, side, " from ", h("span", { class: "id" }, from)),
    h("p", {}, "to ", h("span", { class: "id" }, to), place),
  ];
}

function example(one, direction, on) {
  if (!one || typeof one !== "object" || !(one.path || one.host)) return null;
  const text = `${one.method || "GET"} ${one.host || ""}${one.path || ""}`;
  return h(
    "p",
    { class: "hint" },
    "such as ",
    one.request_id ? link(text, () => on.explainRequest({ ...one, direction }), `Explain ${text} as it is now`) : h("code", {}, text),
  );
}

function unknowns(some) {
  if (!some.length) return null;
  return section(
    "unknowns",
    "What cannot be said",
    h(
      "ul",
      { class: "moves" },
      some.slice(0, SHOWN).map((one, i) =>
        h(
          "li",
          { key: i },
          h("span", { class: "times" }, count(one.count)),
          one.count === 1 ? " needs " : " need ",
          h("code", {}, String(one.needs ?? "")),
          one.why ? h("span", { class: "under" }, String(one.why)) : null,
        ),
      ),
    ),
    h("p", { class: "hint" }, "Name it below telemetry.recent_requests, and it is kept of the requests to come."),
  );
}

function splitChanges(some) {
  if (!some.length) return null;
  return section(
    "splits",
    "Splits",
    table(
      "Splits",
      ["route", "before", "after", "#sticky that move"],
      some.slice(0, SHOWN).map((one, i) => ({
        key: i,
        cells: [
          String(one.route ?? ""),
          shares(one.before),
          shares(one.after),
          Number.isFinite(one.sticky_of) && one.sticky_of > 0 ? `${count(one.sticky_moved)} of ${count(one.sticky_of)}` : "–",
        ],
      })),
    ),
  );
}

function shares(said) {
  const parts = Object.entries(said || {});
  return parts.length ? h("span", {}, parts.map(([name, share]) => h("span", { key: name, class: "under" }, `${name} ${percent(share)}`))) : "–";
}

function settingChanges(some) {
  if (!some.length) return null;
  return section(
    "settings",
    "Settings",
    table(
      "Settings",
      ["route, setting", "before", "after"],
      some.slice(0, SHOWN).map((one, i) => ({
        key: i,
        cells: [
          h(
            "span",
            {},
            h("span", { class: "id" }, [one.route, one.setting].filter(Boolean).join(", ")),
            one.position ? h("code", { class: "place" }, ` ${shortPlace(one.position)}`) : null,
          ),
          settingOf(String(one.setting ?? ""), one.before),
          settingOf(String(one.setting ?? ""), one.after),
        ],
      })),
    ),
  );
}
