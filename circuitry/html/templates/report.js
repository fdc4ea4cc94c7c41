"use strict";
// Everything is in the page already; this adds tooltips, the choice of a node, arrow keys and copying.
document.documentElement.classList.add("script");

const tip = document.getElementById("tip");
let shown = null; // the cell that the tip is about
const CELLS = ".cell";

for (const cell of document.querySelectorAll(CELLS)) {
  cell.dataset.tip = cell.title; // the browser's own tooltip serves where this script does not run
  cell.removeAttribute("title");
  cell.tabIndex = -1;
}
for (const table of document.querySelectorAll("table")) {
  const first = table.querySelector(CELLS);
  if (first) first.tabIndex = 0; // one stop for the tab key a table; arrows move inside
}

function show(cell) {
  shown = cell;
  const list = document.createElement("dl");
  for (const line of cell.dataset.tip.split("\n")) {
    const [name, ...rest] = line.split(": ");
    const term = document.createElement("dt"), value = document.createElement("dd");
    term.textContent = name;
    value.textContent = rest.join(": ");
    list.append(term, value);
  }
  tip.replaceChildren(list);
  tip.hidden = false;
  const at = cell.getBoundingClientRect(), size = tip.getBoundingClientRect();
  const left = Math.min(Math.max(8, at.left + Math.min(at.width, 300) / 2 - size.width / 2), innerWidth - size.width - 8);
  const above = at.top - size.height - 8;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${above < 8 ? Math.min(at.bottom + 8, innerHeight - size.height - 8) : above}px`;
  cell.setAttribute("aria-describedby", "tip");
}
function hide() {
  shown = null;
  tip.hidden = true;
}

// Not pointerover: that also comes when the page moves under a pointer at rest.
document.addEventListener("pointermove", (event) => {
  const cell = event.target.closest(CELLS);
  if (!cell) hide(); else if (cell !== shown) show(cell);
});
document.addEventListener("focusin", (event) => { if (event.target.matches(CELLS)) show(event.target); });
document.addEventListener("focusout", hide);
document.addEventListener("scroll", () => { if (shown) show(shown); }, { capture: true, passive: true });
document.addEventListener("click", (event) => {
  const cell = event.target.closest(CELLS);
  if (cell) cell.focus({ preventScroll: true });
});

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") return hide();
  const cell = event.target.closest(CELLS), step = STEPS[event.key];
  if (!cell || !step) return;
  event.preventDefault();
  const row = cell.closest("tr"), rows = [...cell.closest("table").querySelectorAll("tbody tr")], cells = (r) => [...r.querySelectorAll("td")];
  let next = cell.matches("tr") ? rows[rows.indexOf(row) + step[0]] : cell;
  if (!cell.matches("tr")) {
    let [y, x] = [rows.indexOf(row), cells(row).indexOf(cell)];
    do { y += step[0]; x += step[1]; next = rows[y] && cells(rows[y])[x]; } while (next && !next.matches(CELLS));
  }
  if (next) next.focus();
});

function choose(link) {
  for (const old of document.querySelectorAll(".chosen")) old.classList.remove("chosen");
  const panel = document.getElementById(link.getAttribute("href").slice(1));
  link.classList.add("chosen");
  panel.classList.add("chosen");
  return panel;
}
for (const link of document.querySelectorAll("a.node")) {
  link.addEventListener("click", (event) => { event.preventDefault(); choose(link).scrollIntoView({ block: "nearest" }); });
  link.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    choose(link).focus();
  });
}
for (const close of document.querySelectorAll(".close")) {
  close.addEventListener("click", (event) => {
    event.preventDefault();
    const link = document.querySelector("a.node.chosen");
    for (const old of document.querySelectorAll(".chosen")) old.classList.remove("chosen");
    if (link) link.focus();
  });
}
for (const link of document.querySelectorAll(".panel td a")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const cell = document.getElementById(link.getAttribute("href").slice(1));
    cell.scrollIntoView({ block: "center", behavior: "instant" });
    cell.focus({ preventScroll: true });
  });
}

for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch { // a browser that does not let a local file write to the clipboard
      getSelection().selectAllChildren(source);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  });
}

// What scrolls sideways fades at the edge where there is more, and says so.
for (const box of document.querySelectorAll(".scroll")) {
  const cue = document.createElement("span");
  cue.className = "cue";
  cue.textContent = "scroll sideways for the rest →";
  box.after(cue);
  const mark = () => {
    const rest = box.scrollWidth - box.clientWidth;
    box.classList.toggle("more-left", rest > 1 && box.scrollLeft > 1);
    box.classList.toggle("more-right", rest > 1 && box.scrollLeft < rest - 1);
    cue.hidden = rest <= 1 || box.scrollLeft >= rest - 1;
  };
  box.addEventListener("scroll", mark, { passive: true });
  new ResizeObserver(mark).observe(box);
  mark();
}
