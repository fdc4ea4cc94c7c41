// The details of a node or an edge: its rows in the tables, and what the run saved about it.
const panel = d3.select("#panel");

function choose(item, move = false) {
  state.chosen = item;
  d3.selectAll("g.node").attr("aria-pressed", (node) => String(node === item));
  highlight(null);
  drawPanel();
  if (move) { panel.node().focus({ preventScroll: true }); panel.node().scrollIntoView({ block: "nearest" }); }
}
function drawPanel() {
  panel.selectAll("*").remove();
  const item = state.chosen;
  if (!item) return emptyPanel();
  const side = SIDES[item.side], head = panel.append("div").attr("class", "panel-head");
  const title = head.append("h2");
  title.append("code").text(item.is === "node" ? item.label : `${item.source} → ${item.target}`);
  if (item.is === "node") title.append("span").text(` at ${item.position}`);
  if (PAIR) head.append("p").attr("class", "note").text(side.title);
  head.append("button").attr("type", "button").attr("class", "close").attr("aria-label", "Close the details").text("×").on("click", escape);
  const list = panel.append("dl").attr("class", "facts").selectAll("div").data(facts(item)).join("div");
  list.append("dt").text((fact) => fact[0]);
  list.append("dd").text((fact) => fact[1]);
  if (item.is === "edge") return drawEdgePanel(side, item);
  drawMatches(side, item);
  drawPattern(panel, side, item);
  drawContexts(side, item);
  drawProfile(panel, side, item);
  dots(panel, side, item);
  drawEdges(side, item);
  drawRows(side, item);
}
function emptyPanel() {
  const either = SIDES.some((each) => each.edges.length) ? "a node or an edge" : "a node";
  panel.append("p").attr("class", "hint").text(`Choose ${either} to see what it does: its effect with its interval, its rows in the tables of the run, and every prompt.`);
  const side = SIDES[0], top = SIDES.flatMap((each) => each.parts.edges.slice()).sort(stronger).slice(0, 8);
  if (!SIDES.some((each) => each.edges.length)) {
    const nodes = SIDES.flatMap((each) => each.parts.nodes.filter((node) => node.role !== "logits" && finite(valueOf(node)))).sort(stronger).slice(0, 8);
    if (nodes.length) { panel.append("h3").text("Strongest nodes"); nodeTable(panel, nodes); }
    return;
  }
  if (!top.length) return;
  panel.append("h3").text("Strongest edges");
  edgeTable(panel, top, side);
}
const stronger = (a, b) => Math.abs(shareOf(b, valueOf(b))) - Math.abs(shareOf(a, valueOf(a)));
function drawEdgePanel(side, edge) {
  const ends = panel.append("p");
  [edge.source, edge.target].forEach((name, i) => {
    if (i) ends.append("span").text(" → ");
    ends.append("button").attr("type", "button").attr("class", "link").text(name).on("click", () => choose(side.byName.get(name), true));
  });
  dots(panel, side, edge);
  if (edge.cell !== undefined) { panel.append("h3").text("The cell that it is from"); rowTable(panel, side, [edge.cell]); }
}
function edgeTable(part, edges, side) {
  const exact = edges.some((edge) => finite(edge.exact)), table = part.append("div").attr("class", "scroller").append("table").attr("class", "plain");
  const names = ["edge", side.level === "edge" ? "attribution" : "effect", exact ? "exact, 95 % interval" : "95 % interval", "q"];
  table.append("thead").append("tr").selectAll("th").data(names).join("th").attr("scope", "col").classed("number", (_, i) => i > 0).text((name) => name);
  const lines = table.append("tbody").selectAll("tr").data(edges).join("tr").classed("unsure", (edge) => finite(edge.q) && edge.q >= side.threshold);
  const first = lines.append("td");
  first.append("button").attr("type", "button").attr("class", "link").text((edge) => edgeName(edge)).on("click", (_, edge) => choose(edge, true));
  first.append("span").attr("class", "where").text((edge) => edgeWhere(edge));
  lines.append("td").attr("class", "number").text((edge) => shown(edge, valueOf(edge)));
  const sure = lines.append("td").attr("class", "number");
  if (exact) sure.append("span").attr("class", "exact").text((edge) => shown(edge, edge.exact));
  sure.append("span").attr("class", "interval").text((edge) => shownRange(edge));
  lines.append("td").attr("class", "number").text((edge) => small(edge.q));
}
// The nodes of a suite that measures no edges.
function nodeTable(part, nodes) {
  const table = part.append("div").attr("class", "scroller").append("table").attr("class", "plain");
  table.append("thead").append("tr").selectAll("th").data(["node", "effect", "95 % interval", "q"]).join("th").attr("scope", "col").classed("number", (_, i) => i > 0).text((name) => name);
  const lines = table.append("tbody").selectAll("tr").data(nodes).join("tr").classed("unsure", (node) => finite(node.q) && node.q >= SIDES[node.side].threshold);
  const first = lines.append("td");
  first.append("button").attr("type", "button").attr("class", "link").text((node) => node.label).on("click", (_, node) => choose(node, true));
  first.append("span").attr("class", "where").text((node) => ` ${node.position}`);
  lines.append("td").attr("class", "number").text((node) => shown(node, valueOf(node)));
  lines.append("td").attr("class", "number").append("span").attr("class", "interval").text(shownRange);
  lines.append("td").attr("class", "number").text((node) => small(node.q));
}
// An edge without positions, which stand beside it once if both are the same.
const endsOf = (edge) => [edge.source, edge.target].map((name) => SIDES[edge.side].byName.get(name));
const edgeName = (edge) => `${endsOf(edge).map((node) => node.label).join(" → ")}${edge.kind && SIDES[edge.side].level !== "edge" ? ` (${edge.kind})` : ""}`;
function edgeWhere(edge) {
  const [from, to] = endsOf(edge).map((node) => node.position);
  return from === to ? ` ${from}` : ` ${from} → ${to}`;
}
function drawEdges(side, node) {
  const own = side.parts.edges.filter((edge) => edge.source === node.name || edge.target === node.name).sort((a, b) => Math.abs(b.effect) - Math.abs(a.effect));
  if (!own.length) return;
  panel.append("h3").text("Its edges in the circuit");
  edgeTable(panel, own, side);
}
function drawRows(side, node) {
  if (!node.rows || !node.rows.length) {
    if (side.kind === "suite") panel.append("p").attr("class", "note").text("No cell of the run's tables names this node; its effect was measured once, for the circuit.");
    return;
  }
  panel.append("h3").text("Its rows in the tables");
  if (node.total > node.rows.length) panel.append("p").attr("class", "note").text(`The strongest ${node.rows.length} of ${node.total}; the files have all.`);
  rowTable(panel, side, node.rows);
}
function rowTable(part, side, numbers) {
  const groups = new Map(), single = state.prompt !== null;
  numbers.forEach((which) => { const row = side.rows[which]; groups.set(row.table, [...(groups.get(row.table) || []), row]); });
  groups.forEach((rows, at) => {
    const table = side.tables[at], box = part.append("div").attr("class", "scroller"), grid = box.append("table").attr("class", "plain rows");
    grid.append("caption").text(`${table.title} (${table.unit})`);
    const names = ["cell", "mean", "95 % interval", "normalized", "q", ...(single ? [`prompt ${state.prompt}`] : [])];
    grid.append("thead").append("tr").selectAll("th").data(names).join("th").attr("scope", "col").classed("number", (_, i) => i > 0).text((name) => name);
    const lines = grid.append("tbody").selectAll("tr").data(rows).join("tr").attr("data-table", table.name).attr("data-place", (row) => row.place).classed("unsure", (row) => finite(row.q) && row.q >= side.threshold);
    lines.append("td").text((row) => row.place);
    lines.append("td").attr("class", "number mean").text((row) => number(row.mean));
    lines.append("td").attr("class", "number range").text((row) => range(row.low, row.high));
    lines.append("td").attr("class", "number").text((row) => percent(row.normalized));
    lines.append("td").attr("class", "number").text((row) => small(row.q));
    if (single) lines.append("td").attr("class", "number prompt").text((row) => number(row.prompts[state.prompt]));
    const more = part.append("details").attr("class", "path");
    more.append("summary").text("path");
    more.append("code").text(table.path);
    more.append("p").attr("class", "note").text(table.task);
  });
}
// A latent: the prompts on which it changes most, token by token.
function drawContexts(side, node) {
  if (!/\.(latent|feature)\[/.test(node.name)) return;
  const found = side.contexts.find((row) => row.latent === node.label);
  panel.append("h3").text("Top contexts");
  if (!found) { panel.append("p").attr("class", "note").text("Contexts are saved for the best 12 latents. 'circuitry features FOLDER' writes a page with the contexts of any latent of an autoencoder."); return; }
  if (found.label) panel.append("p").text(found.label);
  found.prompts.forEach((pair) => ["clean", "corrupted"].forEach((each) => {
    const line = panel.append("p").attr("class", "context");
    line.append("b").text(each);
    line.append("span").selectAll("span").data(pair[each]).join("span").attr("class", "shaded").style("--weight", (token) => token[1] / (found.most || 1)).attr("title", (token) => number(token[1])).text((token) => token[0]);
  }));
}
