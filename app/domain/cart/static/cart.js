// The cart as other tabs and devices change it: an account's by events, a visitor's by the tabs of this browser.

import { connect, refresh, together, untilDone, user } from "/static/live.js";

const show = together(50, () => refresh(["cart"]));
const tabs = new BroadcastChannel("cart");

if (user) connect([], { cart_changed: show }, show);
else {
  tabs.onmessage = () => untilDone(show);
  addEventListener("pageshow", (event) => event.persisted && untilDone(show));
}
// Each change of a visitor's cart leads to this page.
tabs.postMessage(null);
