// Keyboard: the nodes of a side are one stop of the tab key, its edges another; arrows move inside.
function rove(svg) {
  for (const kind of ["node", "edge"]) {
    const all = svg.selectAll(`g.${kind}`).nodes(), current = all.find((element) => element === document.activeElement) || all[0];
    all.forEach((element) => element.setAttribute("tabindex", element === current ? 0 : -1));
  }
}
function focusOn(element) {
  const svg = element.closest("svg"), kind = element.classList.contains("node") ? "node" : "edge";
  svg.querySelectorAll(`g.${kind}`).forEach((other) => other.setAttribute("tabindex", other === element ? 0 : -1));
  element.focus({ preventScroll: false });
}
const elementOf = (item) => {
  const own = d3.select(`.side[data-side="${item.side}"]`).selectAll(`g.${item.is}`).filter((datum) => datum.key === item.key).node();
  return own || null;
};
// The nearest node in a direction; what lies askew counts as farther.
function neighbour(node, [dx, dy]) {
  const boxes = SIDES[node.side].plan.boxes, from = boxes.get(node.name);
  let best = null, least = Infinity;
  boxes.forEach((box) => {
    const along = (box.x - from.x) * dx + (box.y - from.y) * dy, aside = Math.abs((box.x - from.x) * dy) + Math.abs((box.y - from.y) * dx);
    const distance = along + 3 * aside;
    if (box !== from && along > 1 && distance < least) [best, least] = [box.node, distance];
  });
  return best;
}
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
function onNodeKey(event, node) {
  if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(node, true); }
  else if (event.key === "e" || event.key === "E") {
    const edge = strongest(node, SIDES[node.side].parts.edges);
    if (edge) { state.back = node; focusOn(elementOf(edge)); }
  } else if (ARROWS[event.key]) {
    event.preventDefault();
    const next = neighbour(node, ARROWS[event.key]);
    if (next) focusOn(elementOf(next));
  }
}
function onEdgeKey(event, edge) {
  if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(edge, true); }
  else if (ARROWS[event.key]) {
    event.preventDefault();
    const all = [...SIDES[edge.side].parts.edges].sort((a, b) => Math.abs(b.effect) - Math.abs(a.effect));
    const step = event.key === "ArrowRight" || event.key === "ArrowDown" ? 1 : -1, next = all[all.indexOf(edge) + step];
    if (next) focusOn(elementOf(next));
  }
}
function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input[type=text], select");
  if (event.key === "Escape") return escape();
  if (typing) return;
  if (event.key === "[" || event.key === "]") return setStop(state.stop + (event.key === "]" ? 1 : -1));
  if (event.key === "," || event.key === ".") return stepPrompt(event.key === "." ? 1 : -1);
  if (event.key === "m" || event.key === "M") return setPrompt(null);
  if (event.key === "?") return toggleKeys();
  const element = event.target.closest && event.target.closest("g.node, g.edge");
  if (!element) return;
  const item = d3.select(element).datum();
  if (item.is === "node") onNodeKey(event, item); else onEdgeKey(event, item);
}
function escape() {
  if (!document.getElementById("keys").hidden) return toggleKeys();
  hideTip();
  if (state.chosen) {
    const back = elementOf(state.chosen);
    choose(null);
    if (back) focusOn(back);
  } else if (state.back && elementOf(state.back)) {
    const node = state.back;
    state.back = null;
    focusOn(elementOf(node));
  }
}
function toggleKeys() {
  const list = document.getElementById("keys"), button = document.getElementById("keys-button");
  list.hidden = !list.hidden;
  button.setAttribute("aria-expanded", String(!list.hidden));
  if (list.hidden) button.focus();
}
