// The live part of a page: one EventSource, the state of its connection, and regions that are fetched anew.

import { localize } from "/static/page.js";

const TEXTS = { connecting: "Connecting…", live: "Live", "catching-up": "Catching up…", offline: "Offline" };
const SHORTEST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 30_000;
const LONGEST_FETCH_MS = 10_000;
// Refreshes run one after the other. What is fetched may be older than the events that arrive meanwhile, so these are
// handled once it is in its place.
let lastRefresh = Promise.resolve(true);
let refreshing = 0;
const held = [];
export const user = document.body.dataset.user;

// Calls `handlers` by the types of events with their data. `catchUp` is called where events were missed, or where a
// handler answers false, and again while it answers false. A user's own channel is always among them: it is refused when the session ends, and so the
// page notices.
export function connect(channels, handlers, catchUp) {
  // A page begins where it was read. Without that position it asks for what it shows, once its stream is live.
  let lastId = document.body.dataset.after;
  let behind = !lastId;
  // Whether the server has said so: its stream may be open while it has lost Redis.
  let live = false;
  let recovering = false;
  let endPause;
  let pause = SHORTEST_PAUSE_MS;
  let source;

  function show(state) {
    for (const element of document.querySelectorAll("[data-connection]")) {
      element.dataset.state = state;
      element.textContent = TEXTS[state];
    }
  }

  async function recover() {
    if (recovering) return;
    recovering = true;
    while (live && behind) {
      show("catching-up");
      behind = false;
      if ((await catchUp()) !== false) continue;
      behind = true;
      show("offline");
      await new Promise((resolve) => {
        endPause = resolve;
        setTimeout(resolve, nextPause());
      });
    }
    recovering = false;
    if (live) upToDate();
  }

  function upToDate() {
    pause = SHORTEST_PAUSE_MS;
    show("live");
  }

  function nextPause() {
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
    return pause;
  }

  function receive(event) {
    lastId = event.lastEventId || lastId;
    if (!live) show("catching-up");
    const { data } = JSON.parse(event.data);
    const handle = async () => {
      if ((await handlers[event.type](data)) === false) fallBehind();
    };
    if (refreshing) held.push(handle);
    else handle();
  }

  // While the stream is not live, `live` follows.
  function fallBehind() {
    behind = true;
    if (live) recover();
  }

  function goLive(event) {
    lastId = event.lastEventId || lastId;
    live = true;
    endPause?.();
    if (behind) recover();
    else upToDate();
  }

  function goOffline() {
    live = false;
    show("offline");
  }

  function open() {
    const all = user ? new Set([...channels, `user:${user}`]) : channels;
    const query = new URLSearchParams(Array.from(all, (channel) => ["channel", channel]));
    if (lastId) query.set("last_event_id", lastId);
    source = new EventSource(`/api/v1/events?${query}`);
    for (const type of Object.keys(handlers)) source.addEventListener(type, receive);
    source.addEventListener("live", goLive);
    source.addEventListener("interrupted", goOffline);
    source.addEventListener("resync", fallBehind);
    source.onerror = () => {
      goOffline();
      // Refused, and so closed for good: after a logout, or while the server cannot check the session.
      if (source.readyState === EventSource.CLOSED) setTimeout(tryAgain, nextPause());
    };
  }

  async function tryAgain() {
    const answer = user && (await fetch("/api/v1/profile").catch(() => null));
    if (answer?.status === 401) sayGoodbye();
    else open();
  }

  show("connecting");
  open();
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => event.persisted && location.reload());
}

// The session was ended elsewhere. What is typed here stays.
function sayGoodbye() {
  const link = document.createElement("a");
  link.href = `/login?next=${encodeURIComponent(location.pathname + location.search)}`;
  link.textContent = "Sign in";
  const notice = document.createElement("p");
  notice.className = "notice warn";
  notice.append("You are signed out on this device. ", link);
  document.querySelector("[data-notices]").replaceChildren(notice);
}

// Fetches a page and puts its elements of these ids in the place of those that are shown. What is typed into their
// fields stays, and the focus. False: it was refused, did not come within LONGEST_FETCH_MS, or `signal` ended it.
export function refresh(ids, { path = location.href, signal } = {}) {
  refreshing += 1;
  lastRefresh = lastRefresh.then(async () => {
    const fresh = await read(path, signal).catch(() => null);
    if (fresh) place(ids, fresh);
    refreshing -= 1;
    // One that fails stops neither the others nor the next refresh.
    if (!refreshing) held.splice(0).forEach((handle) => queueMicrotask(handle));
    return fresh !== null;
  });
  return lastRefresh;
}

async function read(path, signal) {
  const limit = AbortSignal.timeout(LONGEST_FETCH_MS);
  const answer = await fetch(path, {
    headers: { Accept: "text/html" },
    signal: signal ? AbortSignal.any([signal, limit]) : limit,
  });
  if (!answer.ok || (answer.redirected && new URL(answer.url).pathname === "/login")) return null;
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

function place(ids, fresh) {
  for (const id of ids) {
    const shown = document.getElementById(id);
    const next = fresh.getElementById(id);
    if (!shown || !next) continue;
    const typed = [...shown.querySelectorAll("input[id]")].filter((field) => field.value !== field.defaultValue);
    const focused = shown.contains(document.activeElement) ? document.activeElement.id : "";
    shown.replaceChildren(...next.childNodes);
    localize(shown);
    for (const { id, value } of typed) if (document.getElementById(id)) document.getElementById(id).value = value;
    if (focused) document.getElementById(focused)?.focus();
  }
}

// Calls within `ms` of the first are one call, at the end of that time; all get its answer.
export function together(ms, call) {
  let answer;
  return () => {
    answer ??= new Promise((resolve) => setTimeout(resolve, ms)).then(() => {
      answer = undefined;
      return call();
    });
    return answer;
  };
}

// Calls again, after longer and longer pauses, while the answer is false.
export async function untilDone(call, pause = SHORTEST_PAUSE_MS) {
  if ((await call()) === false)
    setTimeout(() => untilDone(call, Math.min(pause * 2, LONGEST_PAUSE_MS)), pause);
}
