
"use strict";
// The listing, the graph and the cards are in the page already; this links them. What is chosen stands behind the address's
// `#`: a program, `program/slot`, or something of the reference, so that it can be sent to somebody else.
const programs = JSON.parse(document.getElementById("data").textContent);
const sections = [...document.querySelectorAll(".program")];
const links = [...document.querySelectorAll("nav a")];
const main = document.querySelector("main");
// Of each row of the listings: its element, its section, its instruction. Those of a difference have none of their own.
const rows = new Map();
sections.forEach((section, at) => {
  const insns = new Map(programs[at]?.instructions.map((insn) => [`${section.id}/${insn.slot}`, insn]));
  for (const element of section.querySelectorAll("tr[id]")) {
    const { id } = element;
    rows.set(id, { id, at, element, insn: insns.get(id) ?? { slot: NaN } });
  }
});
const order = [...rows.keys()];
const line = (row) => row.insn.source && `${row.insn.source.file}:${row.insn.source.line}`;
const element = (name, text, children = []) => {
  const made = document.createElement(name);
  made.append(text, ...children);
  return made;
};
const link = (id, text) => {
  const made = element("a", text);
  made.href = `#${id}`;
  return made;
};
let chosen = null;

// Shows a program and hides the others.
function open(section) {
  sections.forEach((other) => { other.hidden = other !== section; });
  for (const other of links) {
    const current = other.hash === `#${section.id}`;
    if (current) other.setAttribute("aria-current", "page");
    else other.removeAttribute("aria-current");
    if (current) other.scrollIntoView({ block: "nearest" });
  }
}

// Goes to what the address names.
function follow() {
  const id = decode(location.hash.slice(1));
  const row = rows.get(id);
  if (row) return choose(row);
  const target = document.getElementById(id);
  const section = target && target.closest(".program");
  open(section || sections[0]);
  if (target) target.scrollIntoView({ block: "nearest" });
}

function decode(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

// Chooses an instruction, and marks in the listing and the graph what belongs to it.
function choose(row) {
  const section = sections[row.at];
  open(section);
  for (const old of document.querySelectorAll(".chosen, .same, .to, .from, .on")) {
    old.classList.remove("chosen", "same", "to", "from", "on");
  }
  if (chosen) {
    chosen.element.removeAttribute("aria-current");
    chosen.element.removeAttribute("tabindex");
  }
  chosen = row;
  const origins = [];
  for (const other of rows.values()) {
    if (other.at !== row.at) continue;
    if (line(row) && line(other) === line(row)) other.element.classList.add("same");
    if (other.insn.slot === row.insn.to) {
      other.element.classList.add("to");
      block(section, other)?.classList.add("to");
    }
    if (other.insn.to === row.insn.slot) {
      other.element.classList.add("from");
      origins.push(other);
    }
  }
  row.element.classList.add("chosen");
  row.element.setAttribute("aria-current", "true");
  row.element.tabIndex = 0;
  row.element.scrollIntoView({ block: "nearest" });
  const node = block(section, row);
  node?.classList.add("chosen");
  if (node) reveal(node.closest(".graph"), node);
  describe(section, row, origins);
}

// The block of the graph that has an instruction, whose line in it is marked.
function block(section, row) {
  const text = section.querySelector(`.graph [data-s="${row.insn.slot}"]`);
  if (row === chosen) text?.classList.add("on");
  return text?.closest(".block");
}

// Scrolls the graph, and only the graph, to a block.
function reveal(graph, node) {
  const [outer, inner] = [graph.getBoundingClientRect(), (node.querySelector(".on") || node).getBoundingClientRect()];
  const hidden = (low, high, from, to) => (low < from || high > to ? (low + high - from - to) / 2 : 0);
  graph.scrollBy(
    hidden(inner.left, inner.right, outer.left, outer.right),
    hidden(inner.top, inner.bottom, outer.top + 40, outer.bottom),
  );
}

// All that is known of an instruction, with the cards of what it is about.
function describe(section, row, origins) {
  const card = section.querySelector(".card");
  if (!card) return;
  const titles = section.querySelectorAll("thead th");
  const list = element("dl", "");
  const cells = [...row.element.cells];
  cells.slice(1).forEach((cell, at) => {
    if (!cell.textContent) return;
    const definition = element("dd", "", [...cell.cloneNode(true).childNodes]);
    list.append(element("dt", titles[at + 1].textContent), definition);
  });
  if (origins.length) {
    const all = origins.flatMap((other) => [link(other.id, `slot ${other.insn.slot}`), " "]);
    list.append(element("dt", "Comes from"), element("dd", "", all));
  }
  card.replaceChildren(element("h3", `${programs[row.at].name}, slot ${row.insn.slot}`), list);
  for (const about of row.element.querySelectorAll(".ref a")) {
    const article = document.getElementById(decode(about.hash.slice(1)));
    if (article?.tagName !== "ARTICLE") continue;
    const copy = article.cloneNode(true);
    copy.removeAttribute("id");
    card.append(copy);
  }
  card.scrollTop = 0;
}

// Chooses without filling the history: for what is gone through row by row.
function step(row) {
  history.replaceState(null, "", `#${row.id}`);
  choose(row);
  row.element.focus({ preventScroll: true });
}

// Searches all programs, and goes through what was found.
const search = document.getElementById("search");
let hits = [];
function find() {
  const text = search.value.trim().toLowerCase();
  hits = [];
  for (const row of rows.values()) {
    row.words ??= row.element.textContent.toLowerCase();
    const found = text !== "" && row.words.includes(text);
    row.element.classList.toggle("hit", found);
    if (found) hits.push(row);
  }
  main.classList.toggle("searching", text !== "");
  document.getElementById("found").textContent = text && `${hits.length} found`;
}
search.addEventListener("input", find);
search.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !hits.length) return;
  event.preventDefault();
  const at = hits.indexOf(chosen);
  const next = event.shiftKey ? Math.max(at, 0) - 1 : at + 1;
  const row = hits[(next + hits.length) % hits.length];
  history.replaceState(null, "", `#${row.id}`);
  choose(row);
  document.getElementById("found").textContent = `${hits.indexOf(row) + 1} of ${hits.length}`;
});

document.addEventListener("click", (event) => {
  const line = event.target.closest("[data-s]");
  const inGraph = line && `${line.closest(".program").id}/${line.dataset.s}`;
  const inListing = !event.target.closest("a") && event.target.closest("tr[id]")?.id;
  if (!inGraph && !inListing) return;
  if (inListing && getSelection().type === "Range") return;
  event.preventDefault();
  location.hash = inGraph || inListing;
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target === search) {
    if (event.key === "Escape") { search.value = ""; find(); search.blur(); }
    return;
  }
  if (event.key === "/") { event.preventDefault(); search.focus(); return; }
  if (event.target.closest(".card, .graph")) return;
  // A link or a box has no use for these two, and it is where one comes from after choosing a program or a column.
  if (event.target.closest("input, nav") && !["ArrowDown", "ArrowUp"].includes(event.key)) return;
  const section = sections.find((section) => !section.hidden);
  const inside = order.filter((id) => sections[rows.get(id).at] === section && !rows.get(id).element.hidden);
  if (!inside.length) return;
  const at = chosen && sections[chosen.at] === section ? inside.indexOf(chosen.id) : -1;
  const next = { ArrowDown: at + 1, ArrowUp: Math.max(at - 1, 0), Home: 0, End: inside.length - 1 }[event.key];
  if (next !== undefined) {
    event.preventDefault();
    step(rows.get(inside[Math.min(next, inside.length - 1)]));
  } else if (event.key === "Enter" && chosen === rows.get(event.target.id)) {
    const target = rows.get(`${section.id}/${chosen?.insn.to}`);
    if (target) { location.hash = target.id; target.element.focus({ preventScroll: true }); }
  }
});

// Columns can be hidden; those that the card has too are at first where there is little room, on a telephone the source as well.
const spare = ["hex", "ref", ...(innerWidth < 600 && document.querySelector("th.why") ? ["src"] : [])];
for (const title of new Map([...document.querySelectorAll("thead th:not(.slot)")].map((th) => [th.className, th])).values()) {
  const kind = title.className;
  toggle(title.textContent, `.listing .${kind}`, innerWidth > 1800 || !spare.includes(kind));
}
if (document.querySelector("tr.equal")) toggle("What is the same", "tr.equal", true);

// A box to show some elements, or hide them.
function toggle(title, selector, shown) {
  const box = element("input", "");
  box.type = "checkbox";
  box.checked = shown;
  const show = () => document.querySelectorAll(selector).forEach((one) => { one.hidden = !box.checked; });
  box.addEventListener("change", show);
  show();
  document.querySelector("fieldset").append(element("label", box, [` ${title}`]));
}
// A graph can be made larger and smaller.
for (const graph of document.querySelectorAll(".graph:has(svg)")) {
  const drawing = graph.querySelector("svg");
  for (const [text, name, factor] of [["\u2212", "Smaller", 0.8], ["+", "Larger", 1.25]]) {
    const button = element("button", text);
    button.setAttribute("aria-label", name);
    button.addEventListener("click", () => {
      for (const side of ["width", "height"]) drawing.setAttribute(side, drawing.getAttribute(side) * factor);
    });
    graph.querySelector("figcaption").append(button);
  }
}
document.querySelector(".tools").hidden = false;
addEventListener("hashchange", follow);
follow();
