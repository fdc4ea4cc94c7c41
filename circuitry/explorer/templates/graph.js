// Draws a side: bands of layers, columns, edges, and nodes, joined to their elements by name so that a redraw moves what stays.
const colours = () => {
  const style = getComputedStyle(document.documentElement), rgb = (name) => {
    const text = style.getPropertyValue(name).trim();
    return [1, 3, 5].map((i) => parseInt(text.slice(i, i + 2), 16));
  };
  return { card: rgb("--card"), carries: rgb("--carries"), against: rgb("--against") };
};
const css = (channels) => `rgb(${channels.map(Math.round).join(" ")})`;
const luminance = (channels) => {
  const [r, g, b] = channels.map((c) => { const v = c / 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
// The colour of a share, and black or white, whichever can be read on it better.
function paint(share, palette) {
  const hue = share < 0 ? palette.against : palette.carries, weight = finite(share) ? 0.06 + 0.84 * Math.min(1, Math.abs(share) / MOST) ** 0.7 : 0;
  const mixed = palette.card.map((c, i) => c + (hue[i] - c) * weight), light = luminance(mixed);
  return { fill: css(mixed), ink: 1.05 / (light + 0.05) > (light + 0.05) / 0.05 ? "#ffffff" : "#000000" };
}

const vertical = d3.link(d3.curveBumpY), sideways = d3.link(d3.curveBumpX);
function pathOf(item, plan, ports) {
  const from = plan.boxes.get(item.source), to = plan.boxes.get(item.target);
  if (from.row === to.row) {
    const right = to.x >= from.x ? 1 : -1, far = Math.abs(to.column - from.column) > 1;
    if (far || from.column === to.column) {
      const lift = from.h / 2 + 18;
      return `M${from.x},${from.y - from.h / 2}C${from.x + right * 12},${from.y - lift - 6} ${to.x - right * 12},${to.y - lift - 6} ${to.x},${to.y - to.h / 2 - 4}`;
    }
    return sideways({ source: [from.x + right * from.w / 2, from.y], target: [to.x - right * (to.w / 2 + 4), to.y] });
  }
  const start = [from.x + ports.out.get(item.key), from.y - from.h / 2], end = [to.x + ports.into.get(item.key), to.y + to.h / 2 + 4];
  const passed = to.row - from.row > 1 && Math.abs(to.x - from.x) < (from.w + to.w) / 2 && crowded(plan, from, to);
  if (passed) { // around what lies between
    const wanted = Math.max(from.w, to.w) / 2 + 26, room = (plan.width - 4 - Math.max(start[0], end[0])) / 0.75; // a curve goes three quarters of the way
    const bow = ports.out.get(item.key) < 0 || room < wanted - 14 ? -wanted : Math.min(wanted, room);
    return `M${start}C${start[0] + bow},${start[1] - 20} ${end[0] + bow},${end[1] + 20} ${end}`;
  }
  return vertical({ source: start, target: end });
}
const crowded = (plan, from, to) => [...plan.boxes.values()].some((box) => box.row > from.row && box.row < to.row && Math.abs(box.x - (from.x + to.x) / 2) < box.w);

// Where edges leave and reach a node: side by side, in the order of where they come from, so that few cross.
function portsOf(items, plan) {
  const spread = (end, other) => {
    const at = new Map(), groups = new Map();
    items.forEach((item) => groups.set(item[end], [...(groups.get(item[end]) || []), item]));
    groups.forEach((group, name) => {
      const room = plan.boxes.get(name).w * 0.7;
      group.sort((a, b) => plan.boxes.get(a[other]).x - plan.boxes.get(b[other]).x);
      group.forEach((item, i) => at.set(item.key, group.length > 1 ? room * (i / (group.length - 1) - 0.5) : 0));
    });
    return at;
  };
  return { out: spread("source", "target"), into: spread("target", "source") };
}

function drawSide(side) {
  const figure = d3.select(`.side[data-side="${side.number}"]`), scroller = figure.select(".scroller").node(), svg = figure.select("svg.graph");
  const parts = kept(side), plan = layout(side, parts, Math.max(260, scroller.clientWidth));
  side.parts = parts; side.plan = plan;
  const palette = colours();
  svg.attr("viewBox", `0 0 ${plan.width} ${plan.height}`).attr("width", plan.width).attr("height", plan.height);
  const layer = (name, role, label) => {
    let group = svg.select(`g.${name}`);
    if (group.empty()) group = svg.append("g").attr("class", name);
    if (role) group.attr("role", role).attr("aria-label", label);
    return group;
  };
  defineArrows(svg, side.number);
  const bands = layer("bands").attr("aria-hidden", "true"), axis = layer("axis").attr("aria-hidden", "true");
  const lines = layer("edges", "group", "Edges, the strongest first"), joints = layer("joints").attr("aria-hidden", "true"), nodes = layer("nodes", "group", "Nodes");
  drawBands(bands, plan);
  drawColumns(axis, plan);
  const ports = portsOf([...parts.edges, ...parts.joints], plan);
  joints.selectAll("path").data(parts.joints, (joint) => joint.key).join("path").attr("d", (joint) => pathOf(joint, plan, ports)).attr("marker-end", `url(#arrow-${side.number}-none)`);
  lines.selectAll("g.edge").data(parts.edges, (edge) => edge.key).join((enter) => {
    const group = enter.append("g").attr("class", "edge").attr("role", "button").attr("tabindex", -1);
    group.append("path").attr("class", "hit");
    group.append("path").attr("class", "line");
    return group;
  }).each(function (edge) { drawEdge(d3.select(this), edge, pathOf(edge, plan, ports)); });
  nodes.selectAll("g.node").data(parts.nodes, (node) => node.name).join((enter) => {
    const group = enter.append("g").attr("class", "node").attr("role", "button").attr("tabindex", -1);
    group.append("rect").attr("rx", 6);
    group.append("text");
    return group;
  }).each(function (node) { drawNode(d3.select(this), node, plan.boxes.get(node.name), parts, palette); });
  svg.select("text.nothing").remove();
  if (!parts.nodes.length) svg.attr("height", 60).append("text").attr("class", "nothing").attr("x", 8).attr("y", 34).text(side.nodes.length ? "nothing is left at this threshold" : "this run found no circuit");
  figure.select(".beyond").property("hidden", plan.width <= scroller.clientWidth + 1);
  rove(svg);
}

function defineArrows(svg, number) {
  if (!svg.select("defs").empty()) return;
  const defs = svg.append("defs");
  for (const kind of ["carries", "against", "none"]) {
    defs.append("marker").attr("id", `arrow-${number}-${kind}`).attr("class", `head ${kind}`).attr("viewBox", "0 0 8 8").attr("refX", 6).attr("refY", 4)
      .attr("markerWidth", 7).attr("markerHeight", 7).attr("markerUnits", "userSpaceOnUse").attr("orient", "auto").append("path").attr("d", "M0,0.8L7,4L0,7.2z");
  }
}
function drawBands(group, plan) {
  const bands = group.selectAll("g").data(plan.bands).join((enter) => { const g = enter.append("g"); g.append("rect"); g.append("text"); return g; });
  bands.select("rect").attr("x", 0).attr("width", plan.width).attr("y", (band) => band.top).attr("height", (band) => band.bottom - band.top).attr("class", (_, i) => (i % 2 ? "odd" : "even"));
  bands.select("text").attr("x", plan.tight ? 3 : 8).attr("y", (band) => (band.top + band.bottom) / 2 + 4).text((band) => (band.layer === null ? "" : plan.tight ? band.layer : `layer ${band.layer}`));
}
function drawColumns(group, plan) {
  const bottom = plan.height - plan.foot;
  const columns = group.selectAll("g").data(plan.columns).join((enter) => { const g = enter.append("g"); g.append("line"); g.append("text"); return g; });
  columns.select("line").attr("x1", (column) => column.left).attr("x2", (column) => column.left).attr("y1", 0).attr("y2", bottom);
  columns.select("text").attr("y", bottom + plan.line + 2).selectAll("tspan").data((column) => column.words.map((word) => ({ ...word, column }))).join("tspan")
    .attr("class", (word) => word.kind).attr("x", (word) => (word.column.left + word.column.right) / 2).attr("dy", (_, i) => (i ? plan.line : 0)).text((word) => word.text);
}
function drawEdge(group, edge, path) {
  const share = shareOf(edge, valueOf(edge)), kind = !finite(share) ? "none" : share < 0 ? "against" : "carries";
  group.select(".hit").attr("d", path);
  group.select(".line").attr("d", path).attr("class", `line ${kind}`).attr("marker-end", `url(#arrow-${edge.side}-${kind})`)
    .style("stroke-width", finite(share) ? 0.8 + 5.2 * Math.sqrt(Math.min(1, Math.abs(share) / MOST)) : 1);
  group.attr("aria-label", `${edge.source} to ${edge.target}: ${facts(edge).map(([name, text]) => `${name} ${text}`).join(", ")}. Enter for details.`);
}
function drawNode(group, node, box, parts, palette) {
  const { fill, ink } = paint(shareOf(node, nodeValue(node, parts.edges)), palette), top = box.y - box.h / 2;
  group.style("transform", `translate(${box.x - box.w / 2}px, ${top}px)`).style("--role", roleColour(node));
  group.select("rect").attr("width", box.w).attr("height", box.h).style("fill", fill);
  const lines = [...box.lines.map((text) => ({ text, kind: "" })), ...(box.value ? [{ text: box.value, kind: "value" }] : [])];
  group.select("text").style("fill", ink).style("font-size", `${box.size}px`).selectAll("tspan").data(lines).join("tspan")
    .attr("class", (line) => line.kind).attr("x", box.w / 2).attr("y", (_, i) => 4 + box.line * (i + 0.76)).text((line) => line.text);
  const said = box.value ? `, ${box.value}${finite(node.low) && state.prompt === null ? `, 95 % interval ${shownRange(node)}` : ""}` : "";
  group.attr("aria-label", `${node.label} at ${node.position}${said}. Enter for details.`).attr("aria-pressed", String(state.chosen === node));
  group.classed("matched", PAIR && roleOf(node) !== null);
}
