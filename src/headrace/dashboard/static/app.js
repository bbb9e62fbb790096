// The page: asks for a key, then shows what the REST API tells, again and again. It computes nothing but means and
// positions on the chart, and marks everything as old when the server does not answer.
import { drawChart, mergePoints } from "/static/chart.js";

const API = "/api/headrace/v1";
const KEY = "headrace.key";
const POLL_MS = 1000;
const ANSWER_WITHIN_MS = 5000;
const SHOWN_S = 300;
const MEAN_S = 15;
const EVENTS_SHOWN = 30;
const DECISIONS_SHOWN = 20;
const DECIDED = ["scaled", "chunks_pending", "place_taken", "options_changed"]; // how many chunks, and why
const WORK = [
  { kind: "capacity", field: "capacity_tokens_s", words: "capacity", steps: true },
  { kind: "offered", field: "offered_reference_tokens_s", words: "offered" },
  { kind: "served", field: "reference_tokens_s", words: "served" },
];
const CHUNKS = [
  { kind: "billed", field: "billed", words: "billed", steps: true },
  { kind: "wanted", field: "wanted", words: "desired", steps: true },
  { kind: "ready", field: "ready", words: "ready", steps: true },
  { kind: "offered", field: "offered_chunks", words: "offered work", steps: false },
];
const SLOW_EVERY = 5; // bill and decisions are read from the database, so they are asked for on every fifth poll

const $ = (id) => document.getElementById(id);

const page = { chosen: null, points: new Map(), decisions: [], bills: null, poll: 0, lastMs: null, generation: 0 };

class Refused extends Error {}

async function ask(path) {
  const answer = await fetch(API + path, {
    headers: { Authorization: `Bearer ${sessionStorage.getItem(KEY)}` },
    cache: "no-store",
    signal: AbortSignal.timeout(ANSWER_WITHIN_MS),
  });
  if (answer.status === 401 || answer.status === 403) {
    const body = await answer.json().catch(() => ({}));
    throw new Refused(body.message || "the server refused the key");
  }
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  return answer.json();
}

async function poll(generation) {
  if (generation !== page.generation) return;
  if (!document.hidden) {
    try {
      await refresh();
      live();
    } catch (error) {
      if (error instanceof Refused) return askForKey(error.message);
      gone(error);
    }
  }
  setTimeout(poll, POLL_MS, generation);
}

async function refresh() {
  const [status, events] = await Promise.all([ask("/status"), ask(`/events?limit=${EVENTS_SHOWN}`)]);
  const slow = page.poll++ % SLOW_EVERY === 0;
  if (slow) page.bills = await ask("/bill");
  const endpoints = status.endpoints;
  if (!endpoints.some((one) => one.name === page.chosen)) page.chosen = endpoints[0]?.name ?? null;
  const endpoint = endpoints.find((one) => one.name === page.chosen);
  if (endpoint) {
    const known = page.points.get(endpoint.id) ?? [];
    const missing = known.length ? Math.ceil((status.now_ms - known.at(-1).at_ms) / 1000) + 2 : Infinity;
    const seconds = Math.min(SHOWN_S + MEAN_S, Math.max(3, missing));
    const series = await ask(`/series?endpoint=${encodeURIComponent(endpoint.name)}&seconds=${seconds}`);
    page.points.set(endpoint.id, mergePoints(known, series.points, SHOWN_S + MEAN_S));
    if (slow) {
      const kinds = DECIDED.map((kind) => `&kind=${kind}`).join("");
      page.decisions = (await ask(`/events?endpoint=${endpoint.id}${kinds}&limit=${DECISIONS_SHOWN}`)).events;
    }
  }
  show(status, endpoint, events.events);
}

function show(status, endpoint, events) {
  $("ask").hidden = true;
  $("view").hidden = $("forget").hidden = false;
  showProblems(status.problems);
  showTabs(status.endpoints);
  $("none").hidden = status.endpoints.length > 0;
  $("endpoint").hidden = !endpoint;
  if (endpoint) showEndpoint(endpoint, status.now_ms);
  rows($("events"), events.toReversed(), (event) => [
    [time(event.at_ms), "nowrap"],
    [event.endpoint ?? "", "nowrap"],
    [event.kind.replaceAll("_", " "), "nowrap"],
    [event.message],
  ]);
}

function showProblems(problems) {
  $("problems").hidden = problems.length === 0;
  $("problems").replaceChildren(...problems.map((problem) => element("p", problem)));
}

function showTabs(endpoints) {
  const names = endpoints.map((one) => one.name).join(" ");
  const nav = $("endpoints");
  if (nav.dataset.names !== names) {
    nav.dataset.names = names;
    const several = endpoints.length > 1 ? endpoints : [];
    nav.replaceChildren(...several.map((one) => {
      const button = element("button", one.name);
      button.type = "button";
      button.addEventListener("click", () => {
        page.chosen = one.name;
        page.poll = 0;
        page.generation += 1;
        poll(page.generation);
      });
      return button;
    }));
  }
  for (const button of nav.children) button.setAttribute("aria-pressed", String(button.textContent === page.chosen));
}

const STATE_CLASS = { ready: "good", starting: "warn", asleep: "", pending: "warn", degraded: "warn", failed: "bad" };
const PROFILE_WORDS = {
  provisional: "provisional profile: not measured here yet",
  quick: "quick profile",
  measured: "measured profile",
};

function showEndpoint(endpoint, nowMs) {
  const { entities } = endpoint;
  const several = entities.length > 1;
  $("name").textContent = endpoint.name;
  badge($("state"), endpoint.state, STATE_CLASS[endpoint.state] ?? "");
  const labels = [...new Set(entities.map((entity) => entity.profile_status))].map((status) =>
    [PROFILE_WORDS[status] ?? status, status === "provisional" ? "warn" : ""]);
  if (endpoint.measuring) labels.push(["being measured now", "warn"]);
  if (endpoint.simulated) labels.push(["simulated engine", "warn"]);
  if (endpoint.config_update === "IN_PROGRESS") labels.push(["config update in progress", "warn"]);
  $("labels").replaceChildren(...labels.map(([words, kind]) => badge(element("span", ""), words, kind)));
  const what = several ? `${entities.length} served entities` : modelWords(entities[0]);
  $("model").textContent = `${what}, config version ${endpoint.config_version}`;
  $("entities").replaceChildren(...entities.map((entity) => entityBlock(entity, several)));
  showNow(endpoint);
  const points = page.points.get(endpoint.id) ?? [];
  const over = { nowMs, shownS: SHOWN_S, meanS: MEAN_S };
  const least = Math.max(...entities.map((entity) => entity.chunk));
  $("chart-text").textContent = drawChart($("chart"), points, WORK, { least, unit: "reference tokens/s", ...over });
  $("chunks-text").textContent = drawChart($("chunks"), points, CHUNKS, { least: 1, unit: "chunks", ...over });
  rows($("decisions"), page.decisions.toReversed(), (event) => [[time(event.at_ms), "nowrap"], [event.message]]);
  $("replica-entity").hidden = !several;
  rows($("replicas"), endpoint.replicas, (replica) => [
    [replica.id],
    ...(several ? [[replica.entity]] : []),
    [replica.message ? `${replica.state}: ${replica.message}` : replica.state],
    [`${replica.in_flight} of ${replica.slots}`, "number"],
    [replica.cpus.join(", ") || "any"],
    [time(replica.draining_ms ?? replica.ready_ms ?? replica.created_ms), "nowrap"],
  ]);
}

function modelWords(entity) {
  return `${entity.model} version ${entity.model_version} on ${entity.engine}, ${entity.slots} in flight per replica`;
}

/** The range of a served entity; who it is and what goes to it, where there are several. */
function entityBlock(entity, several) {
  const block = document.createElement("div");
  block.className = "entity";
  if (several) {
    const title = element("h4", `${entity.name}: ${entity.traffic}% of the requests `);
    title.append(badge(element("span", ""), entity.state, STATE_CLASS[entity.state] ?? ""));
    block.append(title, quiet(modelWords(entity)));
  }
  block.append(chunkBoxes(entity), element("p", rangeWords(entity)));
  if (entity.scaling_reason) block.append(quiet(`Last decision: ${entity.scaling_reason}${followsWords(entity)}`));
  return block;
}

/** What follows the last decision if nothing changes. */
function followsWords(entity) {
  const until = entity.scaling_until_ms === null ? "" : time(entity.scaling_until_ms);
  return {
    stabilising: `. Stabilising: fewer chunks at ${until} at the earliest`,
    idle: `. Idle: without a request to zero at ${until}`,
    frozen: ". Frozen until a gateway reports",
  }[entity.scaling_standing] ?? "";
}

function chunkBoxes(entity) {
  const kinds = [
    ...Array(entity.chunks_ready).fill("ready"),
    ...Array(entity.chunks_draining).fill("draining"),
    ...Array(entity.chunks_loading).fill("loading"),
  ];
  const count = Math.max(entity.max_chunks, kinds.length);
  const boxes = document.createElement("div");
  boxes.className = "chunks";
  boxes.setAttribute("aria-hidden", "true");
  boxes.append(...Array.from({ length: Math.min(count, 200) }, (_, place) => {
    const box = element("span", "");
    box.className = `chunk ${kinds[place] ?? ""} ${place < entity.min_chunks ? "minimum" : ""}`;
    return box;
  }));
  return boxes;
}

function rangeWords(entity) {
  const moving = [];
  if (entity.chunks_loading) moving.push(`${entity.chunks_loading} loading`);
  if (entity.chunks_draining) moving.push(`${entity.chunks_draining} draining`);
  return `${number(entity.min_tokens_s)} to ${number(entity.max_tokens_s)} reference tokens/s: ` +
    `${entity.min_chunks} to ${entity.max_chunks} chunks of ${number(entity.chunk)}. ` +
    `${entity.chunks_in_use} in use${moving.length ? ` (${moving.join(", ")})` : ""}, ${entity.chunks_billed} billed now.`;
}

function showNow(endpoint) {
  const { rates, gauges } = endpoint;
  const per = `tokens/s, mean over ${rates.over_s} s`;
  const bill = page.bills?.bills.find((one) => one.endpoint_id === endpoint.id);
  const hours = bill ? (bill.chunk_ms / 3_600_000).toFixed(4) : "";
  const prices = new Set(endpoint.entities.map((entity) => entity.price_per_chunk_hour));
  const price = prices.size === 1 ? ` at ${[...prices][0]}` : "";
  tiles($("now"), [
    ["input", number(rates.input_tokens_s, 1), per],
    ["output", number(rates.output_tokens_s, 1), per],
    ["input + output", number(rates.total_tokens_s, 1), per],
    ["reference, served", number(rates.reference_tokens_s, 1), per],
    ["reference, offered", number(rates.offered_reference_tokens_s, 1), per],
    ["waiting in queue", number(gauges.queued), gauges.queued ? `oldest ${gauges.oldest_wait_s.toFixed(1)} s` : "requests"],
    ["in flight", number(gauges.in_flight), "requests"],
    ["bill so far", bill ? bill.amount : "–",
      bill ? `${page.bills.currency}: ${hours} chunk-hours${price}` : "not billed yet"],
  ]);
}

function live() {
  page.lastMs = Date.now();
  $("link").dataset.state = "live";
  $("link").textContent = "live";
  $("view").classList.remove("stale");
}

function gone(error) {
  const since = page.lastMs ? `; what is shown is from ${time(page.lastMs)}` : "";
  const why = error.name === "TimeoutError" ? "the server does not answer in time"
    : error instanceof TypeError ? "the server is gone" : error.message;
  $("link").dataset.state = "gone";
  $("link").textContent = `${why}${since}`;
  $("view").classList.add("stale");
}

function askForKey(complaint) {
  sessionStorage.removeItem(KEY);
  page.generation += 1;
  $("view").hidden = $("forget").hidden = true;
  $("ask").hidden = false;
  $("ask-error").textContent = complaint;
  $("link").dataset.state = "waiting";
  $("link").textContent = "no key";
  $("key").focus();
}

function start() {
  page.generation += 1;
  page.poll = 0;
  poll(page.generation);
}

// Small pieces. Everything from the server goes in as text, never as markup.

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

function quiet(words) {
  const made = element("p", words);
  made.className = "quiet";
  return made;
}

function badge(span, words, kind) {
  span.textContent = words;
  span.className = `badge ${kind}`;
  return span;
}

function tiles(list, items) {
  list.replaceChildren(...items.map(([name, value, note]) => {
    const tile = document.createElement("div");
    const figure = element("dd", value);
    figure.append(element("small", note));
    tile.append(element("dt", name), figure);
    return tile;
  }));
}

function rows(body, items, cells) {
  body.replaceChildren(...items.map((item) => {
    const row = document.createElement("tr");
    row.append(...cells(item).map(([text, kind]) => {
      const cell = element("td", text);
      if (kind) cell.className = kind;
      return cell;
    }));
    return row;
  }));
}

function number(value, digits = 0) {
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function time(ms) {
  return new Date(ms).toLocaleTimeString("en-GB");
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, $("key").value.trim());
  $("key").value = "";
  start();
});
$("forget").addEventListener("click", () => askForKey(""));
document.addEventListener("visibilitychange", () => { if (!document.hidden && sessionStorage.getItem(KEY)) start(); });

if (sessionStorage.getItem(KEY)) start();
else askForKey("");
