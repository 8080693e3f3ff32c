// The account's cart, as other tabs and devices change it.

import { connect, refresh } from "/static/live.js";

const show = () => refresh(["cart"]);
connect([], { cart_changed: show }, show);
