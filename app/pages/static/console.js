// The console looks again every other second; its charts draw what this tab has seen in the last two minutes, also
// before a reload.

import { refresh } from "/static/live.js";

const REGIONS = ["health", "figures", "workers", "nodes"];
const PERIOD_MS = 2000;
const SHOWN_MS = 120_000;
const SHORTEST_SPAN_MS = 30_000;
const KEY = "console-charts";
const connection = document.querySelector("[data-connection]");
const kept = recall();
const charts = [...document.querySelectorAll("[data-chart]")].map((svg) => ({
  svg,
  seen: kept[svg.dataset.chart]?.seen ?? [],
  before: kept[svg.dataset.chart]?.before,
}));
const numbers = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });

// A browser may refuse the storage: then the charts begin empty.
function recall() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY)) ?? {};
  } catch {
    return {};
  }
}

function keep() {
  const all = charts.map(({ svg, seen, before }) => [svg.dataset.chart, { seen, before }]);
  try {
    sessionStorage.setItem(KEY, JSON.stringify(Object.fromEntries(all)));
  } catch {
    // As above.
  }
}

function value({ svg }) {
  const figure = document.querySelector(`[data-figure="${CSS.escape(svg.dataset.chart)}"]`);
  return figure ? Number(figure.dataset.value) : 0;
}

function note(chart) {
  const found = value(chart);
  const at = Date.now();
  const { before } = chart;
  chart.before = { found, at };
  if (chart.svg.dataset.rate === undefined) chart.seen.push({ at, value: found });
  else if (before && at > before.at)
    chart.seen.push({ at, value: Math.max(0, ((found - before.found) * 1000) / (at - before.at)) });
  chart.seen = chart.seen.filter((each) => each.at > at - SHOWN_MS && each.at <= at);
}

function draw({ svg, seen }) {
  if (!seen.length) return;
  const most = Math.max(...seen.map((each) => each.value));
  const end = seen.at(-1).at;
  // The line begins in the middle and grows until the chart is full.
  const span = Math.min(SHOWN_MS, Math.max(SHORTEST_SPAN_MS, 2 * (end - seen[0].at)));
  const points = seen.map(({ at, value }) => `${100 - ((end - at) * 100) / span},${39 - (value / (most || 1)) * 37}`);
  const area = document.createElementNS(svg.namespaceURI, "polygon");
  area.setAttribute("points", [`${points[0].split(",")[0]},39.5`, ...points, "100,39.5"].join(" "));
  const line = document.createElementNS(svg.namespaceURI, "polyline");
  line.setAttribute("points", points.join(" "));
  svg.replaceChildren(svg.querySelector("line"), area, line);
  svg.closest("figure").querySelector("[data-now]").textContent =
    `now ${numbers.format(seen.at(-1).value)}, most ${numbers.format(most)}`;
}

function look() {
  for (const chart of charts) (note(chart), draw(chart));
  keep();
}

function show(state, text) {
  connection.dataset.state = state;
  connection.textContent = text;
}

async function lookAgain() {
  if (!document.hidden) {
    const answered = await refresh(REGIONS);
    show(answered ? "live" : "offline", answered ? "Live" : "Offline");
    if (answered) look();
  }
  setTimeout(lookAgain, PERIOD_MS);
}

look();
show("live", "Live");
setTimeout(lookAgain, PERIOD_MS);
