// The progress of a report, by the events of its task. After a reload the stream begins anew and tells all again.

import { refresh, untilDone } from "/static/live.js";

const { task, state } = document.querySelector("[data-task]").dataset;
const PAUSE_MS = 2000;
const ENDS = ["done", "failed", "aborted"];

function show({ data }) {
  const percent = Number(JSON.parse(data).data.progress);
  const bar = document.getElementById("progress");
  if (!bar || Number.isNaN(percent)) return;
  bar.value = percent;
  document.querySelector("[data-says]").textContent = `${percent} %`;
}

function follow() {
  const source = new EventSource(`/api/v1/tasks/${encodeURIComponent(task)}/events`);
  const end = () => {
    source.close();
    untilDone(showOutcome);
  };
  source.addEventListener("progress", show);
  for (const type of ENDS) source.addEventListener(type, end);
  // Refused, and so closed for good.
  source.onerror = () => source.readyState === EventSource.CLOSED && end();
}

async function showOutcome() {
  if (!(await refresh(["outcome"]))) return false;
  if (document.getElementById("progress")) setTimeout(follow, PAUSE_MS);
}

if (!ENDS.includes(state)) follow();
