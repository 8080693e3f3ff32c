// The console looks again every other second; its charts draw what it has seen in the last two minutes.

import { refresh } from "/static/live.js";

const REGIONS = ["health", "figures", "workers", "nodes"];
const PERIOD_MS = 2000;
const MOST = 60;
const connection = document.querySelector("[data-connection]");
const charts = [...document.querySelectorAll("[data-chart]")].map((svg) => ({ svg, seen: [], before: null }));
const numbers = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });

function value({ svg, ...chart }) {
  const figure = document.querySelector(`[data-figure="${CSS.escape(svg.dataset.chart)}"]`);
  return figure ? Number(figure.dataset.value) : 0;
}

function note(chart) {
  const found = value(chart);
  const now = performance.now();
  const { rate } = chart.svg.dataset;
  const { before } = chart;
  chart.before = { found, now };
  if (rate === undefined) chart.seen.push(found);
  else if (before) chart.seen.push(Math.max(0, ((found - before.found) * 1000) / (now - before.now)));
  chart.seen = chart.seen.slice(-MOST);
}

function draw({ svg, seen }) {
  if (!seen.length) return;
  const most = Math.max(...seen);
  // The line begins in the middle and grows until the chart is full.
  const span = Math.min(MOST, Math.max(15, 2 * seen.length)) - 1;
  const points = seen.map(
    (each, index) => `${100 - (seen.length - 1 - index) * (100 / span)},${39 - (each / (most || 1)) * 37}`,
  );
  const area = document.createElementNS(svg.namespaceURI, "polygon");
  area.setAttribute("points", [`${points[0].split(",")[0]},39.5`, ...points, "100,39.5"].join(" "));
  const line = document.createElementNS(svg.namespaceURI, "polyline");
  line.setAttribute("points", points.join(" "));
  svg.replaceChildren(svg.querySelector("line"), area, line);
  svg.closest("figure").querySelector("[data-now]").textContent =
    `now ${numbers.format(seen.at(-1))}, most ${numbers.format(most)}`;
}

function show(state, text) {
  connection.dataset.state = state;
  connection.textContent = text;
}

async function look() {
  if (document.hidden) return;
  const answered = await refresh(REGIONS);
  show(answered ? "live" : "offline", answered ? "Live" : "Offline");
  if (answered) for (const chart of charts) (note(chart), draw(chart));
}

for (const chart of charts) (note(chart), draw(chart));
show("live", "Live");
setInterval(look, PERIOD_MS);
