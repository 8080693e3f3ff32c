// The progress of a report, by the events of its task. After a reload the stream begins anew and tells all again.

import { refresh } from "/static/live.js";

const { task, state } = document.querySelector("[data-task]").dataset;
const ENDS = ["done", "failed", "aborted"];

function show({ data }) {
  const percent = Number(JSON.parse(data).data.progress);
  const bar = document.getElementById("progress");
  if (!bar || Number.isNaN(percent)) return;
  bar.value = percent;
  document.querySelector("[data-says]").textContent = `${percent} %`;
}

if (!ENDS.includes(state)) {
  const source = new EventSource(`/api/v1/tasks/${encodeURIComponent(task)}/events`);
  source.addEventListener("progress", show);
  for (const end of ENDS) {
    source.addEventListener(end, () => {
      source.close();
      refresh(["outcome"]);
    });
  }
}
