// An article that is being read: its summary and keywords arrive, and an edit is told, not inserted.

import { connect, refresh } from "/static/live.js";

const article = document.querySelector("[data-article]");
const show = ({ id }) => id === Number(article.dataset.article) && refresh(["about"]);

connect(["broadcast"], { article_processed: show }, () => refresh(["about"]));
