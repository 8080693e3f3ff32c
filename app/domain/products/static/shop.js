// Prices and names as they change.

import { connect, refresh, together } from "/static/live.js";

const shown = document.querySelector("[data-product]")?.dataset.product;
const REGIONS = shown ? ["product"] : ["products"];
// Not all readers at once: each waits a moment of its own.
const later = together(200 + Math.random() * 800, () => refresh(REGIONS));

function changed({ product_id }) {
  if (shown ? product_id === Number(shown) : document.getElementById("products")) return later();
}

connect(["broadcast"], { product_updated: changed }, () => refresh(REGIONS));
