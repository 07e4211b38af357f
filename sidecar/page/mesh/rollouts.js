// Rollouts, and all else that is true of the whole mesh: problems of its source, doubt about endpoints, replicas.

import { h } from "./dom.js";
import { count, many, short, span } from "./format.js";
import { sign } from "./marks.js";
import { facts, link, problems, section } from "./parts.js";

const PARTS = ["widen", "routes", "narrow"];
const PART_SAYS = {
  widen: "what widens, to all",
  routes: "routes and settings, in waves",
  narrow: "what narrows, to all",
};
const STATES = {
  halted: ["bad", "halted"],
  holding: ["ok", "holding"],
  rolling: ["ok", "rolling"],
  thin: ["warn", "too few requests to judge"],
  waiting: ["idle", "waiting"],
  done: ["ok", "done"],
  superseded: ["idle", "superseded"],
};
// What needs a person comes first, what is over comes last; within these by name, so that nothing jumps.
const ORDER = ["halted", "thin", "rolling", "holding", "waiting", "done", "superseded"];
const REPLICA_LOST_S = 15;
// What was just done is shown as it was rolled out; what was done before is a line of a list.
const LATELY_S = 60;
const LATELY_MOST = 3;
const STRANGERS_MOST = 10; // Whoever may report may invent names.

const list = (value) => (Array.isArray(value) ? value : []);

export function rolloutCard(rollout, page) {
  const [severity, word] = STATES[rollout.state] || ["warn", String(rollout.state)];
  const waves = list(rollout.waves).map(String);
  const at = rollout.state === "done" ? PARTS.length : PARTS.indexOf(rollout.part);
  const wave =
    rollout.state === "done" || at > PARTS.indexOf("routes")
      ? waves.length
      : at < PARTS.indexOf("routes")
        ? -1
        : waveOf(rollout.wave, waves);
  const step = (index, here) => (index < here ? "is-past" : index === here ? "is-now" : "is-next");
  const told = { "is-past": "done", "is-now": word, "is-next": "to come" };
  return h(
    "div",
    { class: `rollout is-${severity} state-${STATES[rollout.state] ? rollout.state : "other"}` },
    h(
      "p",
      { class: "rollout-head" },
      sign(severity, word),
      h("span", {}, `revision ${rollout.revision}`),
      h("code", {}, short(rollout.hash)),
      rollout.since ? h("span", { class: "since" }, `for ${span(page.now - rollout.since)}`) : null,
    ),
    rollout.why ? h("p", { class: "why" }, String(rollout.why)) : null,
    h(
      "ol",
      { class: "steps", "aria-label": "parts" },
      PARTS.map((part, i) =>
        h(
          "li",
          { key: part, class: step(i, at), title: PART_SAYS[part], "aria-current": i === at ? "step" : null },
          part,
          h("span", { class: "unseen" }, ` (${told[step(i, at)]})`),
        ),
      ),
    ),
    waves.length
      ? h(
          "ol",
          { class: "steps waves", "aria-label": "waves" },
          waves.map((name, i) =>
            h(
              "li",
              { key: `${i} ${name}`, class: step(i, wave), "aria-current": i === wave ? "step" : null },
              name,
              h("span", { class: "unseen" }, ` (${told[step(i, wave)]})`),
            ),
          ),
        )
      : null,
    rollout.state !== "superseded" && Number.isFinite(rollout.of)
      ? h("p", { class: "under" }, `${count(rollout.accepted)} of ${many(rollout.of, "instance")} accepted`)
      : null,
    list(rollout.refused).length
      ? h("p", { class: "under warn" }, `refused by ${list(rollout.refused).map(String).join(", ")}`)
      : null,
    list(rollout.ignored).length
      ? h(
          "p",
          { class: "under" },
          `not counted: ${list(rollout.ignored)
            .map((one) => (typeof one === "object" && one ? String(one.id || one.instance) : String(one)))
            .join(", ")}`,
        )
      : null,
  );
}

/** The index of a wave: they are counted from one; a name of one is taken too. */
export function waveOf(wave, waves) {
  return waves.includes(String(wave)) && typeof wave === "string" ? waves.indexOf(wave) : Number(wave) - 1;
}

export function sortedRollouts(mesh) {
  const rank = (rollout) => ORDER.indexOf(rollout.state);
  return [...list(mesh.rollouts)].sort((a, b) => rank(a) - rank(b) || (String(a.service) < String(b.service) ? -1 : 1));
}

/** The panel while nothing is chosen. */
export function overview(page) {
  const { mesh, model, on } = page;
  const hurt = [...model.edges.values()].filter((call) => call.severity === "bad" || call.severity === "warn");
  const ill = [...model.services.values()].filter((one) => one.severity === "bad" || one.severity === "warn");
  const bad = (one) => (one.severity === "bad" ? 0 : 1);
  const source = list(mesh.source && mesh.source.problems);
  const doubt = mesh.doubt || {};
  const failing = list(mesh.discovery).filter((one) => one.error || one.stale);
  const lost = list(mesh.replicas).filter((one) => one.seen === false || !(Number(one.seen_s) <= REPLICA_LOST_S));
  const over = (one) => one.state === "done" || one.state === "superseded";
  const rollouts = sortedRollouts(mesh).filter((one) => !over(one));
  const done = sortedRollouts(mesh).filter(over);
  const lately = done.filter((one) => one.state === "done" && page.now - one.since < LATELY_S);
  if (lately.length <= LATELY_MOST) rollouts.push(...lately);
  const { strangers } = model;
  const sidecars = [...model.instances.values()].some((some) => some.length);
  return [
    h(
      "header",
      { key: "head", class: "panel-head" },
      h(
        "div",
        {},
        h("p", { class: "kind" }, "mesh"),
        h("h2", { id: "panel-title", tabindex: "-1" }, "What needs a look"),
      ),
    ),
    source.length
      ? section(
          "source",
          "The last edit was refused",
          h(
            "p",
            {},
            `Revision ${mesh.revision} stays in force${mesh.source.since ? `, for ${span(page.now - mesh.source.since)} now` : ""}; nobody was sent this edit.`,
          ),
          problems(source),
        )
      : null,
    hurt.length || ill.length
      ? section(
          "hurt",
          "Where it hurts",
          h(
            "ul",
            { class: "hurts" },
            [...ill]
              .sort((a, b) => bad(a) - bad(b) || (a.name < b.name ? -1 : 1))
              .map((one) =>
                h(
                  "li",
                  { key: `service ${one.name}` },
                  sign(one.severity, ""),
                  link(one.name, () => on.service(one.name)),
                  h("span", { class: "why" }, one.why.join("; ")),
                ),
              ),
            [...hurt]
              .sort((a, b) => bad(a) - bad(b) || (a.key < b.key ? -1 : 1))
              .map((call) =>
                h(
                  "li",
                  { key: `call ${call.key}` },
                  sign(call.severity, ""),
                  link(`${call.from || "unknown callers"} → ${call.to}`, () => on.edge(call.key)),
                  h("span", { class: "why" }, call.why.join("; ")),
                ),
              ),
          ),
        )
      : null,
    strangers.length
      ? section(
          "strangers",
          "Sidecars of no service",
          h("p", {}, "They say that they are of a service that the mesh has no file for, and get none."),
          h(
            "ul",
            { class: "hurts" },
            strangers
              .slice(0, STRANGERS_MOST)
              .map((name) =>
                h(
                  "li",
                  { key: name },
                  sign("warn", ""),
                  h("span", { class: "id" }, name),
                  h("span", { class: "why" }, many(model.instances.get(name).length, "instance")),
                ),
              ),
          ),
          strangers.length > STRANGERS_MOST
            ? h("p", { class: "hint" }, `and ${strangers.length - STRANGERS_MOST} more`)
            : null,
        )
      : null,
    !hurt.length && !ill.length && !source.length && !strangers.length && model.services.size
      ? h(
          "p",
          { key: "well", class: "all-well" },
          sidecars
            ? sign("ok", "Every service and every call is well.")
            : sign("idle", "No sidecar has reported yet."),
        )
      : null,
    rollouts.length
      ? section(
          "rollouts",
          "Rollouts",
          rollouts.map((rollout) =>
            h(
              "div",
              { key: `${rollout.service} ${rollout.revision}` },
              h(
                "p",
                { class: "rollout-name" },
                link(String(rollout.service), () => on.service(String(rollout.service))),
              ),
              rolloutCard(rollout, page),
            ),
          ),
        )
      : null,
    done.length
      ? section(
          "done",
          rollouts.length ? "Rollouts that are over" : "Rollouts",
          h(
            "details",
            {},
            h("summary", {}, sign("ok", `${done.filter((one) => one.state === "done").length} of ${many(done.length, "service")} done`)),
            h(
              "ul",
              { class: "over" },
              done.map((one) =>
                h(
                  "li",
                  { key: `${one.service} ${one.revision}` },
                  link(String(one.service), () => on.service(String(one.service))),
                  h("span", { class: "why" }, `revision ${one.revision}, ${one.state}${one.since ? ` ${span(page.now - one.since)} ago` : ""}`),
                ),
              ),
            ),
          ),
        )
      : null,
    doubt.stale || doubt.removing === false || failing.length
      ? section(
          "doubt",
          "Endpoints in doubt",
          doubt.stale
            ? h(
                "p",
                {},
                `${many(doubt.stale, "registration")} stale, ${count(doubt.fresh)} fresh: stale ones get requests only where no fresh one is left.`,
              )
            : null,
          doubt.removing === false
            ? h(
                "p",
                { class: "warn" },
                "So many are stale that the fault is taken to be the control plane's own: nothing is removed.",
              )
            : null,
          h(
            "ul",
            { class: "hurts" },
            failing.map((one) =>
              h(
                "li",
                { key: `${one.kind} ${one.name}` },
                sign("warn", ""),
                h("span", {}, `${one.name} (${one.kind})`),
                h("span", { class: "why" }, one.error ? String(one.error) : many(one.stale, "stale endpoint")),
              ),
            ),
          ),
        )
      : null,
    section(
      "about",
      "Control plane",
      facts([
        ["release", mesh.release],
        ["engine", mesh.engine],
        ["runs for", mesh.started ? span(page.now - mesh.started) : null],
        ["mesh", `revision ${mesh.revision ?? "–"} (${short(mesh.hash) || "none"})`],
        ["pinned", mesh.pinned ? `to revision ${mesh.pinned}, until the directory changes` : null],
        [
          "replicas",
          list(mesh.replicas).length
            ? h(
                "ul",
                { class: "plain" },
                list(mesh.replicas).map((one) =>
                  h(
                    "li",
                    { key: one.name },
                    `${one.name}`,
                    lost.includes(one)
                      ? h(
                          "span",
                          { class: "warn" },
                          `${Number.isFinite(one.seen_s) ? ` not seen for ${span(one.seen_s)}` : " not seen"}${one.error ? `: ${one.error}` : ""}`,
                        )
                      : null,
                  ),
                ),
              )
            : null,
        ],
      ]),
    ),
  ];
}
