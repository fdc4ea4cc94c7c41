// What a node does at each position: a state's writes, a convolution's taps, and single prompts as dots.
const isState = (node) => node.role === "state" || node.label.startsWith("ssm_state") || /state/.test(node.label);
const isTap = (node) => /^conv|tap/.test(node.label) || node.role.startsWith("conv");

function drawProfile(part, side, node) {
  const profile = side.profiles[node.host];
  if (profile) edgeProfile(part, side, node, profile);
  (node.profile || []).forEach((series) => rowProfile(part, side, series));
  if (isState(node) && Object.keys(side.written).length) written(part, side);
  if (isTap(node) || node.role === "write_input") taps(part, side, node);
}
// A discovery: the attributions of the node's strongest edges by position, those that write it first.
function edgeProfile(part, side, node, profile, title, caption) {
  const host = (text) => text.replace(/\.(\w+)$/, ""), into = (row) => host(row.edge.split(" -> ")[1]) === node.host && host(row.edge.split(" -> ")[0]) !== node.host;
  const rows = [...profile.rows].sort((a, b) => into(b) - into(a));
  part.append("h3").text(title || (isState(node) ? "Write profile" : "By position"));
  const largest = Math.max(...rows.flatMap((row) => row.values.map(Math.abs)), 1e-12);
  const table = grid(part, `${caption || `Mean attribution of edges ${isState(node) ? "that write, carry and read this state" : "into and out of this node"}`}, by the position of their source, in ${side.unit}`);
  const head = table.append("thead").append("tr");
  head.append("td");
  head.selectAll("th").data(profile.positions).join("th").attr("scope", "col").text((name) => name);
  const lines = table.append("tbody").selectAll("tr").data(rows).join("tr");
  lines.append("th").attr("scope", "row").append("code").text((row) => row.edge.replace("->", "→"));
  lines.selectAll("td").data((row) => row.values).join("td").classed("signed", true).classed("negative", (value) => value / (side.whole || 1) < 0)
    .style("--weight", (value) => Math.abs(value) / largest).text((value) => brief(value));
}
const brief = (value) => (!finite(value) ? "" : Math.abs(value) < 0.005 ? "0" : minus(value.toFixed(Math.abs(value) >= 9.95 ? 0 : Math.abs(value) >= 0.995 ? 1 : 2)));

// A suite: the cells in which the node was patched at several positions, as bars with intervals.
function rowProfile(part, side, series) {
  const rows = series.rows.map((number, i) => ({ ...side.rows[number], position: series.positions[i] }));
  const table = side.tables[series.table];
  part.append("h3").text(`${series.node.replace(/\[.*\]/, "") === "ssm_state" ? "Write profile" : "By position"}: ${series.node}`);
  part.append("p").attr("class", "note").text(`${table.title}${series.place ? `, ${series.place}` : ""}; mean and 95 % interval, ${table.unit}`);
  bars(part, rows.map((row) => ({ name: row.position, mean: state.prompt === null ? row.mean : row.prompts[state.prompt], low: row.low, high: row.high })));
}
function written(part, side) {
  part.append("h3").text("Where the token is written in this model");
  part.append("p").attr("class", "note").text("Share of the information about the token that is written at each position, over all layers");
  bars(part, Object.entries(side.written).map(([name, mean]) => ({ name, mean })), percent);
}
function taps(part, side, node) {
  const layer = String(node.layer), lags = Object.entries(side.profiles).filter(([name]) => name.startsWith(`conv_tap[${layer},`)).sort();
  if (lags.length && !node.label.startsWith("conv_tap")) edgeProfile(part, side, node, { positions: lags[0][1].positions, rows: lags.flatMap(([, profile]) => profile.rows) }, "Taps", "Mean attribution of what each tap brings from so many tokens back (its second index)");
  const own = Object.entries(side.taps).filter(([name]) => name.slice(name.indexOf("[") + 1).split(/[,\]]/)[0] === layer);
  if (!own.length) { if (isTap(node)) part.append("p").attr("class", "note").text(side.lacking.taps || "What the taps bring was not saved for this node."); return; }
  part.append("h3").text("What reaches each tap");
  const table = grid(part, "Mean norm of the value that the convolution sees from so many tokens back, before its weights, on clean prompts: its size, not its effect"), largest = Math.max(...own.flatMap(([, tap]) => tap.size), 1e-12);
  const head = table.append("thead").append("tr");
  head.append("td");
  head.selectAll("th").data(own[0][1].positions).join("th").attr("scope", "col").text((name) => `at ${name}`);
  const lines = table.append("tbody").selectAll("tr").data(own).join("tr");
  lines.append("th").attr("scope", "row").append("code").text(([name]) => name);
  lines.selectAll("td").data(([, tap]) => tap.size).join("td").style("--weight", (value) => value / largest).text((value) => value.toPrecision(3));
}
// Bars with intervals around a common zero.
function bars(part, rows, words = number) {
  const ends = rows.flatMap((row) => [row.mean, row.low, row.high]).filter(finite), low = Math.min(0, ...ends), high = Math.max(0, ...ends), span = high - low || 1;
  const at = (value) => `${(100 * (value - low)) / span}%`, table = part.append("table").attr("class", "bars"), lines = table.append("tbody").selectAll("tr").data(rows).join("tr");
  lines.append("th").attr("scope", "row").text((row) => row.name);
  const tracks = lines.append("td").attr("class", "plot").attr("aria-hidden", "true").append("div").attr("class", "track");
  tracks.append("span").attr("class", "zero").style("left", at(0));
  tracks.filter((row) => finite(row.mean)).append("span").attr("class", "bar").style("left", (row) => at(Math.min(0, row.mean))).style("width", (row) => `${(100 * Math.abs(row.mean)) / span}%`);
  tracks.filter((row) => finite(row.low)).append("span").attr("class", "whisker").style("left", (row) => at(row.low)).style("width", (row) => `${(100 * (row.high - row.low)) / span}%`);
  lines.append("td").attr("class", "number").text((row) => words(row.mean));
}
// Every prompt as a dot: what disagrees with the mean is seen at once.
function dots(part, side, item) {
  const sets = [];
  if (item.prompts) sets.push({ name: side.level === "edge" ? "attribution" : "effect", values: item.prompts, examples: side.examples, mean: item.effect, pick: true, low: finite(item.exact) ? undefined : item.low, high: finite(item.exact) ? undefined : item.high });
  if (item.exact_by_prompt) sets.push({ name: "exact effect, on other prompts", values: item.exact_by_prompt.effects, examples: item.exact_by_prompt.examples, mean: item.exact, low: item.low, high: item.high });
  if (!sets.length) return;
  part.append("h3").text("Single prompts");
  const ends = sets.flatMap((set) => [...set.values, set.mean, 0]).filter(finite), low = Math.min(...ends), high = Math.max(...ends), x = (value) => 8 + (304 * (value - low)) / (high - low || 1);
  sets.forEach((set) => {
    part.append("p").attr("class", "note").text(`${set.name}: mean ${shown(item, set.mean)}, ${set.values.length} prompts from ${shown(item, Math.min(...set.values))} to ${shown(item, Math.max(...set.values))}`);
    const svg = part.append("svg").attr("class", "dots").attr("viewBox", "0 0 320 34").attr("role", "img").attr("aria-label", `${set.name} on each prompt, as dots`);
    svg.append("line").attr("class", "zero").attr("x1", x(0)).attr("x2", x(0)).attr("y1", 2).attr("y2", 32);
    if (finite(set.low)) svg.append("rect").attr("class", "interval").attr("x", x(set.low)).attr("width", Math.max(1, x(set.high) - x(set.low))).attr("y", 4).attr("height", 26);
    svg.append("line").attr("class", "mean").attr("x1", x(set.mean)).attr("x2", x(set.mean)).attr("y1", 3).attr("y2", 31);
    svg.selectAll("circle").data(set.values).join("circle").attr("cx", x).attr("cy", (_, i) => 17 + 7 * (((i * 7) % 5) / 2 - 1)).attr("r", 4)
      .classed("now", (_, i) => set.pick && i === state.prompt).classed("pick", set.pick).on("click", (_, value) => { if (set.pick) setPrompt(set.values.indexOf(value)); })
      .append("title").text((value, i) => `prompt ${set.examples[i]}: ${shown(item, value)}`);
  });
  const odd = sets[0].values.map((value, i) => [Math.abs(value - sets[0].mean), i]).sort((a, b) => b[0] - a[0]).slice(0, 3);
  const line = part.append("p").attr("class", "note").text("Farthest from the mean: ");
  odd.forEach(([, i], place) => {
    if (place) line.append("span").text(", ");
    line.append("button").attr("type", "button").attr("class", "link").text(`prompt ${sets[0].examples[i]} (${shown(item, sets[0].values[i])})`).on("click", () => setPrompt(i));
  });
}
