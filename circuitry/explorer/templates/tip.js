// What a pointer or the focus on a node or an edge shows beside it.
const tip = document.getElementById("tip");

// Everything that is known about a node or an edge, as [name, text].
function facts(item) {
  const side = SIDES[item.side], value = item.is === "node" ? nodeValue(item, side.parts.edges) : valueOf(item), list = [];
  const exact = finite(item.exact), name = side.level === "edge" ? (state.prompt === null ? "attribution" : "attribution on this prompt") : state.prompt === null ? "effect" : "effect on this prompt";
  if (item.is === "node" && side.level === "edge") {
    const edge = strongest(item, side.parts.edges);
    if (edge) list.push(["strongest edge", `${shown(edge, valueOf(edge))} (${edge.source} → ${edge.target})`]);
  } else list.push([name, shown(item, value) || (state.prompt === null ? "not measured" : "not measured on single prompts")]);
  if (item.whole) {
    list.push(["whole effect", `${number(item.whole.mean)}${range(item.whole.low, item.whole.high) && ` (${range(item.whole.low, item.whole.high)})`}`]);
    list.push(["unit", item.whole.unit]);
    return list;
  }
  if (exact) list.push(["exact effect", shown(item, item.exact)]);
  if (finite(item.low)) list.push([exact || state.prompt === null ? "95 % interval" : "95 % interval of the mean", shownRange(item)]);
  else if (finite(item.effect) && (item.is === "edge" || side.level !== "edge")) list.push(["95 % interval", side.kind === "suite" ? "none: no cell of the tables is this effect" : "none: not verified"]);
  if (item.patched) list.push(["patched", item.patched]);
  if (finite(item.normalized)) list.push(["normalized", percent(item.normalized)]);
  if (finite(item.q)) list.push(["q", small(item.q)]);
  if (item.kind) list.push(["kind", item.kind]);
  if (item.is === "node" && item.role && item.role !== item.label) list.push(["role", item.role]);
  return list;
}
function showTip(item, element) {
  const title = item.is === "edge" ? `${item.source} → ${item.target}` : `${item.label} at ${item.position}`;
  const list = d3.create("div");
  list.append("p").text(title);
  const rows = list.append("dl").selectAll("div").data(facts(item)).join("div");
  rows.append("dt").text((fact) => fact[0]);
  rows.append("dd").text((fact) => fact[1]);
  tip.replaceChildren(list.node());
  tip.hidden = false;
  const at = element.querySelector(".hit, rect").getBoundingClientRect(), size = tip.getBoundingClientRect();
  const middle = at.left + at.width / 2, beside = item.is === "edge" ? at.top + at.height / 2 : at.top;
  const left = Math.min(Math.max(8, middle - size.width / 2), innerWidth - size.width - 8), above = beside - size.height - 10;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${above > 8 ? above : Math.max(8, Math.min((item.is === "edge" ? beside : at.bottom) + 10, innerHeight - size.height - 8))}px`;
  element.setAttribute("aria-describedby", "tip");
  highlight(item);
}
function hideTip() {
  tip.hidden = true;
  highlight(null);
}
// What belongs to a node or an edge stays; all else fades.
function highlight(item) {
  state.hovered = item;
  const about = item || state.chosen;
  for (const side of SIDES) {
    const figure = d3.select(`.side[data-side="${side.number}"]`), own = about && about.side === side.number;
    const partners = about && !own ? new Set(matchedNodes(about).filter((node) => node.side === side.number).map((node) => node.name)) : new Set();
    const touches = (edge) => own && (about.is === "edge" ? edge === about : edge.source === about.name || edge.target === about.name);
    const near = new Set(own ? [about.name, about.source, about.target, ...side.parts.edges.filter(touches).flatMap((edge) => [edge.source, edge.target])] : []);
    const fades = about && (own || partners.size);
    figure.selectAll("g.edge").classed("faded", (edge) => fades && !touches(edge)).classed("lit", (edge) => Boolean(touches(edge)));
    figure.select("g.joints").selectAll("path").classed("faded", (joint) => fades && !(own && (joint.source === about.name || joint.target === about.name)));
    figure.selectAll("g.node").classed("faded", (node) => fades && !near.has(node.name) && !partners.has(node.name)).classed("chosen", (node) => node === state.chosen);
  }
  drawLinks();
}
function watch() {
  document.getElementById("sides").addEventListener("pointermove", (event) => {
    const element = event.target.closest("g.node, g.edge"), item = element && d3.select(element).datum();
    if (!item) { if (state.hovered) hideTip(); } else if (item !== state.hovered) showTip(item, element);
  });
  document.getElementById("sides").addEventListener("pointerleave", hideTip);
  document.addEventListener("focusin", (event) => {
    const element = event.target.closest("g.node, g.edge");
    if (element) showTip(d3.select(element).datum(), element);
  });
  document.addEventListener("focusout", (event) => { if (event.target.closest("g.node, g.edge")) hideTip(); });
  document.getElementById("sides").addEventListener("click", (event) => {
    const element = event.target.closest("g.node, g.edge");
    const below = matchMedia("(max-width: 62rem)").matches; // the details are below the circuit there, so they are scrolled to
    if (element && !below) focusOn(element);
    choose(element ? d3.select(element).datum() : null, Boolean(element) && below);
    hideTip();
  });
  document.addEventListener("keydown", onKey);
}
