// The front page: new articles are announced and not inserted, summaries arrive in their places, search as one types.

import { connect, refresh } from "/static/live.js";

const REGIONS = ["articles", "popular"];
// Who types without such a pause asks once, at the end.
const PAUSE_MS = 250;
const waiting = document.querySelector("[data-waiting]");
const search = document.querySelector("[data-search]");
const fresh = new Set();
let searching;
let typing;

function announce({ id }) {
  if (document.getElementById(`article-${id}`)) return;
  fresh.add(id);
  tell();
}

function tell() {
  waiting.hidden = fresh.size === 0;
  waiting.textContent = fresh.size === 1 ? "1 new article" : `${fresh.size} new articles`;
}

async function showFresh() {
  const wanted = [...fresh];
  search.value = "";
  if (!(await load("/"))) return;
  history.replaceState(null, "", "/");
  for (const id of wanted) {
    fresh.delete(id);
    document.getElementById(`article-${id}`)?.classList.add("fresh");
  }
  tell();
  scrollTo({ top: 0 });
  document.querySelector("#articles a")?.focus();
}

// In the place of a text that is shown, so that nothing moves.
function put(id, part, text) {
  const place = document.querySelector(`#article-${CSS.escape(id)} ${part}`);
  if (place) place.textContent = text;
}

const showSummary = ({ id, summary }) => put(id, "[data-summary]", summary);
const showTitle = ({ id, title }) => put(id, "h2 a", title);

function showDeletion({ id }) {
  if (fresh.delete(id)) tell();
  put(id, "[data-summary]", "This article has been deleted.");
}

async function load(path) {
  searching?.abort();
  searching = new AbortController();
  const { signal } = searching;
  const done = await refresh(REGIONS, { path, signal });
  if (!done && !signal.aborted)
    document.getElementById("found").textContent = "The search does not answer. Try again in a moment.";
  return done;
}

async function find() {
  const query = search.value.trim();
  const path = query ? `/search?${new URLSearchParams({ q: query })}` : "/";
  if (await load(path)) history.replaceState(null, "", path);
}

waiting.addEventListener("click", showFresh);
search.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(find, PAUSE_MS);
});
connect(
  ["broadcast"],
  {
    article_created: announce,
    article_changed: showTitle,
    article_processed: showSummary,
    article_deleted: showDeletion,
  },
  () => refresh(REGIONS),
);
