// On every page: times in the reader's zone, numbers in the reader's language, one submit a form, and countdowns.

const moments = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const numbers = new Intl.NumberFormat();

// The times and the numbers inside `root`, as the reader writes them.
export function localize(root = document) {
  for (const time of root.querySelectorAll("time[datetime]:not([title])")) {
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.valueOf())) continue;
    time.title = time.textContent;
    time.textContent = moments.format(moment);
  }
  for (const data of root.querySelectorAll("data[value]")) data.textContent = numbers.format(Number(data.value));
}

// A form is sent once, however often its button is pressed; a page that comes back from the history may send again.
function sendOnce(event) {
  const form = event.target;
  if (form.method !== "post" || event.defaultPrevented) return;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
  for (const button of form.querySelectorAll("button")) button.setAttribute("aria-disabled", "true");
}

function allowAgain() {
  for (const form of document.querySelectorAll("form[data-sent]")) {
    delete form.dataset.sent;
    for (const button of form.querySelectorAll("button")) button.removeAttribute("aria-disabled");
  }
}

function countDown(element) {
  const until = Date.now() + Number(element.dataset.countdown) * 1000;
  const again = document.querySelector("[data-again]");
  const shown = element.querySelector("strong");
  const tick = () => {
    const left = Math.ceil((until - Date.now()) / 1000);
    if (left > 0) shown.textContent = `${left} s`;
    else {
      element.textContent = "You can try again now.";
      clearInterval(timer);
      again?.focus();
    }
  };
  const timer = setInterval(tick, 250);
}

// For a form that asks before it is sent.
function ask(event) {
  const question = event.submitter?.dataset.ask ?? event.target.dataset.ask;
  if (question && !confirm(question)) event.preventDefault();
}

document.addEventListener("submit", ask);
document.addEventListener("submit", sendOnce);
addEventListener("pageshow", allowAgain);
localize();
document.querySelectorAll("[data-countdown]").forEach(countDown);
document.querySelector("[data-focus]")?.focus();
