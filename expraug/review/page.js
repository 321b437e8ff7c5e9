"use strict";
// All text goes in as textContent: names in a set may hold anything.
const data = JSON.parse(document.getElementById("data").textContent);
const PER_PAGE = 60;
const rows = data.rows.map((r, index) => ({
  index, source: data.sources[r[0]], maker: data.makers[r[1]], target: r[2], intensity: r[3],
  variant: r[4], reason: r[5], scores: r[6], face: r[7],
  key: JSON.stringify({ source: data.sources[r[0]][0], synthesizer: data.makers[r[1]][1],
    target: r[2], intensity: r[3], variant: r[4] }),
}));
const byKey = new Map(rows.map((row) => [row.key, row]));

// Decisions outlive the page in the browser's store, where it has one for files.
const STORE = "expraug-review:" + location.pathname;
const decided = new Map();
try {
  for (const [key, word] of JSON.parse(localStorage.getItem(STORE) || "[]"))
    if (byKey.has(key)) decided.set(key, word);
} catch { /* no store */ }
function keep() {
  try { localStorage.setItem(STORE, JSON.stringify([...decided])); } catch { /* full, or none */ }
}

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}
function choice(id, text, names) {
  const select = element("select", { id });
  select.append(element("option", { value: "", textContent: "all" }));
  for (const [value, shown] of names) select.append(element("option", { value, textContent: shown }));
  return element("label", { hidden: names.length < 2 }, text, select); // unseen with one choice
}
const counted = (of) => {
  const counts = new Map();
  for (const row of rows) counts.set(of(row), (counts.get(of(row)) || 0) + 1);
  return [...counts].sort().map(([name, n]) => [name, `${name} (${n})`]);
};
const number = (id) => element("input", { id, type: "number", step: 0.01, });
const NOT_REFUSED = "made";
const choices = {
  target: choice("target", "class", counted((row) => row.target)),
  shows: choice("shows", "source", counted((row) => row.source[1])),
  maker: choice("maker", "synthesizer", counted((row) => row.maker[0])),
  reason: choice("reason", "refusal", counted((row) => row.reason || NOT_REFUSED)),
  decided: choice("decided", "decided", data.decide ? [["undecided", "undecided"],
    ["accepted", "accepted"], ["rejected", "rejected"]] : []),
};
const figure = element("select", { id: "figure", hidden: data.scores.length < 2 });
data.scores.forEach((name, i) =>
  figure.append(element("option", { value: i, textContent: name })));
const order = element("select", { id: "order" },
  element("option", { value: "", textContent: "as in the set" }),
  element("option", { value: "lowest", textContent: "lowest first" }),
  element("option", { value: "highest", textContent: "highest first" }));
const list = element("input", { type: "file", id: "load", hidden: true });
const button = (id, text, act) =>
  element("button", { id, type: "button", textContent: text, onclick: act });
const status = element("p", { id: "status" });
status.setAttribute("role", "status");
const form = element("form", { onsubmit: (event) => event.preventDefault() },
  ...Object.values(choices),
  element("label", { hidden: !data.scores.length }, data.scores.length > 1 ? figure
    : data.scores[0] || "", number("least"), "to", number("most")),
  element("label", {}, "source name", element("input", { id: "name", type: "search" })),
  element("label", {}, "order", order),
  button("previous", "‹ page", () => turn(-1)), button("next", "page ›", () => turn(1)));
if (data.decide) form.append(button("export", "Export rejected", () => save()),
  button("import", "Load a list", () => list.click()), list);
const help = element("p", { className: "small" });
const deciding = data.decide ? ["R", " reject ", "A", " accept ", "U", " undecided "] : [];
for (const part of ["← → ↑ ↓", " choose ", ...deciding, "N", " next page ", "P", " page before"])
  help.append(part.startsWith(" ") ? part : element("kbd", { textContent: part }));
const main = element("main");
main.setAttribute("role", "listbox");
document.querySelector("header").append(form, status, help);
document.body.append(main);
form.addEventListener("input", () => { filter(); });
form.addEventListener("change", (event) => {
  if (event.target.tagName === "SELECT") event.target.blur(); // keys decide again
});
list.addEventListener("change", async () => {
  if (list.files[0]) load(await list.files[0].text());
  list.value = "";
});

let shown = [];
let at = 0; // position of the chosen face in `shown`
const value = (id) => document.getElementById(id)?.value ?? "";
const score = (row) => row.scores[Number(figure.value)] ?? null;
function filter() {
  const want = Object.fromEntries([...Object.keys(choices), "least", "most", "name", "order"]
    .map((id) => [id, value(id)]));
  shown = rows.filter((row) =>
    (!want.target || row.target === want.target)
    && (!want.shows || row.source[1] === want.shows)
    && (!want.maker || row.maker[0] === want.maker)
    && (!want.reason || (row.reason || NOT_REFUSED) === want.reason)
    && (!want.decided || (decided.get(row.key) || "undecided") === want.decided)
    && (want.least === "" || (score(row) !== null && score(row) >= Number(want.least)))
    && (want.most === "" || (score(row) !== null && score(row) <= Number(want.most)))
    && (!want.name || row.source[0].toLowerCase().includes(want.name.toLowerCase())));
  if (want.order) { // without a figure, last
    const sign = want.order === "lowest" ? 1 : -1;
    const place = (row) => (score(row) === null ? Infinity : sign * score(row));
    shown.sort((a, b) => (place(a) === place(b) ? 0 : place(a) - place(b)) || a.index - b.index);
  }
  at = 0;
  draw();
}
function image(src, alt, className) {
  if (!src) return element("div", { className: "none", textContent: alt });
  return element("img", { loading: "lazy", decoding: "async", alt, title: alt, src, className });
}
function card(row, position) {
  const refused = row.reason !== "";
  const told = score(row) === null ? "" : `score ${score(row).toFixed(2)}`;
  const asked = [row.maker[0], row.intensity === null ? null : `intensity ${row.intensity}`,
    row.variant === null ? null : `variant ${row.variant}`].filter((part) => part !== null);
  const made = element("article", { id: `face-${row.index}`, className: decided.get(row.key) || "",
    onclick: () => { choose(position); } },
    element("div", { className: "pair" },
      image(row.source[2], row.source[2] ? row.source[0] : "source not shown: give --source"),
      image(row.face, refused ? `refused: ${row.reason}` : "picture is gone", "face")),
    element("div", { className: "about" },
      element("b", { textContent: `${row.source[1]} → ${row.target}` }),
      element("span", { textContent: told })),
    element("div", { className: "small", textContent: row.source[0] }),
    element("div", { className: "small", textContent: asked.join(" · ") }));
  if (refused)
    made.append(element("div", { className: "small", textContent: data.messages[row.reason] || row.reason }));
  made.setAttribute("role", "option");
  return made;
}
const first = () => Math.floor(at / PER_PAGE) * PER_PAGE;
function draw() {
  main.replaceChildren(...shown.slice(first(), first() + PER_PAGE)
    .map((row, i) => card(row, first() + i)));
  main.dataset.first = first();
  mark();
}
function mark() {
  [...main.children].forEach((child, i) =>
    child.setAttribute("aria-selected", String(first() + i === at)));
  const words = [...decided.values()];
  const count = (word) => words.filter((w) => w === word).length;
  const pages = Math.max(1, Math.ceil(shown.length / PER_PAGE));
  status.textContent = `${shown.length} of ${rows.length} faces · page `
    + `${first() / PER_PAGE + 1} of ${pages}`
    + (data.decide ? ` · ${count("accepted")} accepted · ${count("rejected")} rejected` : "");
}
function choose(position) {
  at = Math.max(0, Math.min(shown.length - 1, position));
  if (Number(main.dataset.first) !== first()) {
    draw();
    scrollTo(0, main.offsetTop - document.querySelector("header").offsetHeight);
  } else mark();
  main.children[at - first()]?.scrollIntoView({ block: "nearest" });
}
function turn(pages) {
  const there = first() + pages * PER_PAGE;
  if (there >= 0 && there < shown.length) choose(there);
}
function decide(word) {
  const row = shown[at];
  if (!row || !data.decide) return;
  if (row.reason) { choose(at + 1); return; } // what was refused is not in the set
  if (word) decided.set(row.key, word); else decided.delete(row.key);
  keep();
  const there = document.getElementById(`face-${row.index}`);
  if (there) there.className = word;
  choose(word ? at + 1 : at);
}
function save() {
  const lines = [...decided].filter(([, word]) => word === "rejected").map(([key]) => key + "\n");
  const link = element("a", { download: "rejected.jsonl",
    href: URL.createObjectURL(new Blob(lines, { type: "application/jsonl" })) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
function load(text) {
  let unknown = 0;
  for (const line of text.split("\n").filter((l) => l.trim())) {
    let key = "";
    try {
      const { source, synthesizer, target, intensity, variant } = JSON.parse(line);
      key = JSON.stringify({ source, synthesizer, target, intensity, variant });
    } catch { /* counted below */ }
    if (byKey.has(key)) decided.set(key, "rejected"); else unknown += 1;
  }
  keep();
  draw();
  if (unknown) status.textContent += ` · ${unknown} lines name no face of this page`;
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (["INPUT", "SELECT"].includes(event.target.tagName)) return;
  const across = Math.max(1, getComputedStyle(main).gridTemplateColumns.split(" ").length);
  const acts = {
    ArrowRight: () => choose(at + 1), ArrowLeft: () => choose(at - 1),
    ArrowDown: () => choose(at + across), ArrowUp: () => choose(at - across),
    r: () => decide("rejected"), a: () => decide("accepted"), u: () => decide(""),
    n: () => turn(1), p: () => turn(-1),
    Home: () => choose(0), End: () => choose(shown.length - 1),
  };
  const act = acts[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (act) { event.preventDefault(); act(); }
});
filter();
