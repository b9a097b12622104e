"use strict";
// Draws /openapi.json. Text only ever enters the page as text, never as markup.

function el(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  for (const child of children) if (child !== null) made.append(child);
  return made;
}

let schemas = {};
const nameOf = (schema) => (schema && schema.$ref ? schema.$ref.split("/").pop() : null);

function typeText(schema) {
  if (!schema || Object.keys(schema).length === 0) return "any JSON";
  const name = nameOf(schema);
  if (name) return name;
  if (schema.type === "array") return `list of ${typeText(schema.items)}`;
  const alternatives = schema.anyOf || schema.oneOf;
  if (alternatives) return alternatives.map(typeText).join(" or ");
  if (schema.enum) return schema.enum.join(" | ");
  return Array.isArray(schema.type) ? schema.type.join(" or ") : schema.type || "any JSON";
}

function schemaView(schema) {
  const seen = new Set();
  const wanted = [];
  (function collect(value) {
    if (Array.isArray(value)) return value.forEach(collect);
    if (!value || typeof value !== "object") return;
    const name = nameOf(value);
    if (name && !seen.has(name)) {
      seen.add(name);
      wanted.push(name);
      collect(schemas[name]);
    }
    Object.values(value).forEach(collect);
  })(schema);
  const view = el("details", {}, el("summary", {}, `Schema: ${typeText(schema)}`));
  view.addEventListener("toggle", () => {
    if (!view.open || view.querySelector("div")) return;
    const body = el("div", {});
    if (!nameOf(schema)) body.append(el("pre", { tabindex: "0" }, JSON.stringify(schema, null, 2)));
    for (const name of wanted) {
      body.append(el("h4", {}, name), el("pre", { tabindex: "0" }, JSON.stringify(schemas[name], null, 2)));
    }
    view.append(body);
  });
  return view;
}

function parameterTable(parameters) {
  const rows = parameters.map((p) => el("tr", {},
    el("th", { scope: "row" }, el("code", {}, p.name), p.required ? " (required)" : ""),
    el("td", {}, p.in), el("td", {}, typeText(p.schema)), el("td", {}, p.description || "")));
  const head = el("tr", {}, ...["Name", "In", "Type", "Meaning"].map((t) => el("th", { scope: "col" }, t)));
  return el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows));
}

async function read(response, out) {
  // A stream is shown as it comes; anything else is shown when it is whole.
  const reader = response.body ? response.body.getReader() : null;
  const decoder = new TextDecoder();
  let text = "";
  while (reader) {
    const { done, value } = await reader.read();
    if (done) break;
    text += decoder.decode(value, { stream: true });
    out.textContent = `${response.status} ${response.statusText}\n\n${text}`;
  }
  try {
    text = JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    // Not JSON: shown as it is.
  }
  out.textContent = `${response.status} ${response.statusText}\n\n${text}`;
}

function tryForm(path, operation) {
  const usable = (operation.parameters || []).filter((p) => p.in !== "header");
  const inputs = new Map();
  const form = el("form", { class: "try" });
  for (const p of usable) {
    const id = `${operation.operationId}-${p.name}`;
    const input = el("input", { id, name: p.name, autocomplete: "off" });
    if (p.required) input.required = true;
    inputs.set(p, input);
    form.append(el("label", { for: id }, p.name), input);
  }
  const stop = el("button", { type: "button", hidden: "" }, "Stop");
  const out = el("pre", { "aria-live": "polite", tabindex: "0", hidden: "" });
  form.append(el("button", { type: "submit" }, "Try it"), " ", stop, out);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const query = new URLSearchParams();
    let target = path;
    for (const [p, input] of inputs) {
      if (p.in === "path") target = target.replace(`{${p.name}}`, encodeURIComponent(input.value));
      else if (input.value !== "") query.set(p.name, input.value);
    }
    const controller = new AbortController();
    stop.onclick = () => controller.abort();
    out.hidden = false;
    stop.hidden = false;
    out.textContent = "…";
    try {
      const address = query.size ? `${target}?${query}` : target;
      await read(await fetch(address, { signal: controller.signal }), out);
    } catch (error) {
      out.textContent += `\n${error.name === "AbortError" ? "stopped" : error.message}`;
    } finally {
      stop.hidden = true;
    }
  });
  return form;
}

function responseRows(responses) {
  return Object.entries(responses).map(([status, response]) => {
    const media = Object.entries(response.content || {});
    return el("div", {}, el("h4", {}, status),
      el("p", { class: "lines" }, response.description || ""),
      ...media.map(([type, body]) => el("div", {}, el("code", {}, type), schemaView(body.schema || {}))));
  });
}

function operationView(path, method, operation) {
  const body = el("div", {});
  if (operation.description) body.append(el("p", {}, operation.description));
  if ((operation.parameters || []).length) body.append(el("h3", {}, "Parameters"), parameterTable(operation.parameters));
  if (operation.requestBody) {
    body.append(el("h3", {}, operation.requestBody.required ? "Body" : "Body (optional)"));
    for (const content of Object.values(operation.requestBody.content)) body.append(schemaView(content.schema));
  }
  body.append(el("h3", {}, "Answers"), ...responseRows(operation.responses));
  if (method === "get") body.append(el("h3", {}, "Try it"), tryForm(path, operation));
  const head = el("summary", {}, el("span", { class: "method" }, method.toUpperCase()), el("code", {}, path), ` – ${operation.summary}`);
  const view = el("details", { id: operation.operationId, "data-text": `${method} ${path} ${operation.summary}`.toLowerCase() }, head, body);
  return view;
}

function openTarget() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) {
    target.open = true;
    target.querySelector("summary").focus();
  }
}

async function main() {
  const document_ = await (await fetch("/openapi.json")).json();
  schemas = document_.components.schemas;
  document.getElementById("about").textContent = `${document_.info.description} Version ${document_.info.version}.`;
  const main = document.getElementById("operations");
  const contents = document.getElementById("contents");
  for (const tag of document_.tags) {
    const list = el("ul", {});
    const section = el("section", {}, el("h2", {}, tag.name), el("p", { class: "soft" }, tag.description || ""));
    for (const [path, item] of Object.entries(document_.paths)) {
      for (const [method, operation] of Object.entries(item)) {
        if (!operation.tags || !operation.tags.includes(tag.name)) continue;
        section.append(operationView(path, method, operation));
        list.append(el("li", {}, el("a", { href: `#${operation.operationId}` }, operation.summary)));
      }
    }
    contents.append(el("h2", {}, tag.name), list);
    main.append(section);
  }
  document.getElementById("filter").addEventListener("input", (event) => {
    const wanted = event.target.value.toLowerCase();
    for (const view of main.querySelectorAll("details[data-text]")) view.hidden = !view.dataset.text.includes(wanted);
  });
  addEventListener("hashchange", openTarget);
  openTarget();
}

main().catch((error) => {
  document.getElementById("about").textContent = `openapi.json could not be read: ${error.message}`;
});
