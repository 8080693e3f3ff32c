// Shows an OpenAPI 3.1 document: operations by tag, each with its parameters, schemas and a form to try it.

import { alternatives, example, limitsOf, merged, nameOf, resolve, setDocument, typeOf } from "./schema.js";

const METHODS = ["get", "post", "put", "patch", "delete", "head", "options"];
const byId = (id) => document.getElementById(id);
let openapi = {};

// Children that are strings become text nodes: nothing that the document says can turn into markup.
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key in made && typeof value !== "string") made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== ""));
  return made;
}

// The fields of an object, its lists' objects and its alternatives, as nested lists. A schema within itself stops.
function fields(node, within = []) {
  if (node?.$ref && within.includes(node.$ref)) return [element("p", { class: "note" }, `again ${nameOf(node.$ref)}`)];
  const inside = node?.$ref ? [...within, node.$ref] : within;
  const schema = merged(node);
  if (schema.items) return fields(schema.items, inside);
  const properties = Object.entries(schema.properties ?? {});
  const others = alternatives(schema).flatMap((choice) => fields(choice, inside));
  if (!properties.length) return others;
  const items = properties.map(([name, property]) => field(name, property, schema, inside));
  return [element("ul", { class: "schema" }, items), ...others];
}

function field(name, property, parent, within) {
  return element("li", {}, ...head(name, property, parent.required?.includes(name)), fields(property, within));
}

function head(name, node, required, place = "") {
  const schema = merged(node);
  const notes = [limitsOf(schema), schema.description].filter(Boolean).join(". ");
  return [
    element("code", {}, name),
    element("span", { class: "type" }, ` ${typeOf(node)}${place}`),
    required ? element("span", { class: "required" }, " required") : "",
    notes ? element("span", { class: "note" }, ` ${notes}`) : "",
  ];
}

function parametersOf(operation, pathItem) {
  const all = [...(pathItem.parameters ?? []), ...(operation.parameters ?? [])].map(resolve);
  // A page cannot set a cookie on its request: the browser sends its own.
  return all.filter((parameter) => parameter.in !== "cookie");
}

function parameterList(parameters) {
  if (!parameters.length) return [];
  const items = parameters.map(({ name, schema, description, required, in: place }) =>
    element("li", {}, ...head(name, { ...schema, ...(description && { description }) }, required, `, in the ${place}`)),
  );
  return [element("h3", {}, "Parameters"), element("ul", { class: "schema" }, items)];
}

function contentList(content) {
  return Object.entries(content ?? {}).flatMap(([type, { schema }]) => [
    element("p", { class: "note" }, element("code", {}, type), schema ? ` ${typeOf(schema)}` : ""),
    ...fields(schema),
  ]);
}

function responseList(responses) {
  return Object.entries(responses ?? {}).flatMap(([status, node]) => {
    const response = resolve(node);
    return [element("h3", {}, `${status} ${response.description ?? ""}`), ...contentList(response.content)];
  });
}

function details(method, path, operation, pathItem) {
  const body = resolve(operation.requestBody);
  const parameters = parametersOf(operation, pathItem);
  return element(
    "div",
    {},
    operation.description ? element("p", {}, operation.description) : "",
    parameterList(parameters),
    body.content ? [element("h3", {}, "Body"), ...contentList(body.content)] : [],
    responseList(operation.responses),
    element("h3", {}, "Try it"),
    tryForm(method, path, parameters, body.content?.["application/json"]?.schema),
  );
}

function tryForm(method, path, parameters, bodySchema) {
  const inputs = parameters.map((parameter) => [parameter, element("input", { autocomplete: "off" })]);
  const body = bodySchema ? element("textarea", { rows: "8", spellcheck: "false" }) : null;
  if (body) body.value = JSON.stringify(example(bodySchema), null, 2);
  const send = element("button", {}, "Send");
  const stop = element("button", { type: "button", disabled: true }, "Stop");
  const output = element("pre", { hidden: true, "aria-live": "polite" });
  const form = element(
    "form",
    { class: "try" },
    inputs.map(([{ name, in: place }, input]) => element("label", { class: "field" }, `${name} (${place})`, input)),
    body ? element("label", { class: "field" }, "body", body) : "",
    element("div", { class: "buttons" }, send, stop),
    output,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const abort = new AbortController();
    stop.onclick = () => abort.abort();
    output.hidden = false;
    send.disabled = true;
    stop.disabled = false;
    await show(output, request(method, path, inputs, body?.value), abort.signal);
    send.disabled = false;
    stop.disabled = true;
  });
  return form;
}

function request(method, path, inputs, body) {
  const headers = new Headers();
  const query = new URLSearchParams();
  for (const [parameter, input] of inputs) {
    const values = merged(parameter.schema).type === "array" ? input.value.split(",") : [input.value];
    if (parameter.in === "path") path = path.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (input.value && parameter.in === "header") headers.set(parameter.name, input.value);
    else if (input.value) for (const value of values) query.append(parameter.name, value.trim());
  }
  if (byId("credential-header").value) headers.set(byId("credential-header").value, byId("credential-value").value);
  if (body) headers.set("Content-Type", "application/json");
  return [query.size ? `${path}?${query}` : path, { method: method.toUpperCase(), headers, body: body || undefined }];
}

// The answer is shown while it arrives, since an event stream has no end.
async function show(output, [address, options], signal) {
  output.textContent = `${options.method} ${address}\n`;
  try {
    const response = await fetch(address, { ...options, signal, cache: "no-store" });
    const headers = [...response.headers].map(([name, value]) => `${name}: ${value}\n`).join("");
    output.textContent += `\n${response.status} ${response.statusText}\n${headers}\n`;
    if (response.headers.get("Content-Type")?.includes("json")) {
      const text = await response.text();
      output.textContent += text && JSON.stringify(JSON.parse(text), null, 2);
      return;
    }
    const text = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    for (let part = await text?.read(); part && !part.done; part = await text.read()) output.textContent += part.value;
  } catch (error) {
    output.textContent += signal.aborted ? "\nstopped" : `\n${error}`;
  }
}

function operationBlock(method, path, operation, pathItem) {
  const block = element(
    "details",
    { class: "operation", id: `${method}${path.replaceAll("/", "-").replaceAll(/[{}]/g, "")}` },
    element(
      "summary",
      {},
      element("span", { class: `method ${method}` }, method),
      element("span", { class: "path" }, path),
      element("span", { class: "summary" }, operation.summary ?? ""),
    ),
  );
  const fill = () => block.append(details(method, path, operation, pathItem));
  block.addEventListener("toggle", fill, { once: true });
  return block;
}

// Operations without a tag stand under the first word of their path behind the version.
function byTag() {
  const groups = new Map((openapi.tags ?? []).map((tag) => [tag.name, []]));
  for (const [path, pathItem] of Object.entries(openapi.paths ?? {})) {
    for (const method of METHODS.filter((name) => name in pathItem)) {
      const operation = pathItem[method];
      const tag = operation.tags?.[0] ?? path.replace(/^\/api\/v\d+/, "").split("/")[1] ?? "other";
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(operationBlock(method, path, operation, pathItem));
    }
  }
  return [...groups].filter(([, blocks]) => blocks.length);
}

function filter() {
  const wanted = byId("filter").value.toLowerCase();
  for (const block of document.querySelectorAll(".operation")) {
    block.hidden = !block.querySelector("summary").textContent.toLowerCase().includes(wanted);
  }
  for (const section of document.querySelectorAll("section")) {
    section.hidden = !section.querySelector(".operation:not([hidden])");
  }
}

async function start() {
  const main = byId("operations");
  try {
    const response = await fetch(byId("operations").dataset.openapi);
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
    openapi = await response.json();
    setDocument(openapi);
    main.replaceChildren(...byTag().map(([tag, blocks]) => element("section", {}, element("h2", {}, tag), blocks)));
    const named = location.hash && byId(decodeURIComponent(location.hash.slice(1)));
    if (named) {
      named.open = true;
      named.scrollIntoView();
    }
  } catch (error) {
    main.replaceChildren(element("p", { class: "failure" }, `The document could not be read: ${error.message}`));
  }
  main.setAttribute("aria-busy", "false");
}

byId("filter").addEventListener("input", filter);
byId("settings").addEventListener("submit", (event) => event.preventDefault());
start();
