// An article that is being read: its summary and keywords arrive, and an edit is told, not inserted.

import { connect, refresh } from "/static/live.js";

const shown = Number(document.querySelector("[data-article]").dataset.article);
const notice = document.querySelector("[data-changed]");
const ofThis = (handle) => (data) => data.id === shown && handle(data);

function tell(text, isDeleted) {
  notice.firstElementChild.textContent = text;
  notice.querySelector("a").hidden = isDeleted;
  notice.hidden = false;
}

connect(
  ["broadcast"],
  {
    article_processed: ofThis(() => refresh(["about"])),
    article_changed: ofThis(() => tell("This article has been changed.", false)),
    article_deleted: ofThis(() => tell("This article has been deleted.", true)),
  },
  () => refresh(["about"]),
);
