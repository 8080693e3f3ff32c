// The account's cart, as other tabs and devices change it.

import { connect, refresh, together } from "/static/live.js";

const show = () => refresh(["cart"]);
connect([], { cart_changed: together(50, show) }, show);
