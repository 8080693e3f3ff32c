// Messages as they arrive, and who is online. What is being written is never touched.

import { connect, refresh, together } from "/static/live.js";

const showMessages = together(150, () => refresh(["messages", "online"]));
const showOnline = together(400, () => refresh(["online"]));

function mark(online) {
  return ({ user_id }) => {
    for (const dot of document.querySelectorAll(`[data-presence="${Number(user_id)}"]`)) {
      dot.dataset.online = String(online);
      dot.setAttribute("aria-label", online ? "online" : "offline");
    }
    return showOnline();
  };
}

connect(["presence"], { new_message: showMessages, user_online: mark(true), user_offline: mark(false) }, () =>
  refresh(["messages", "online"]),
);
