// A head's attention: the mean between positions, or a prompt's whole pattern with the tokens that one query attends to.
function drawPattern(part, side, node) {
  const pattern = side.patterns[node.host];
  if (!pattern) {
    if (node.label.startsWith("head[") && side.byName.get(node.name)) part.append("p").attr("class", "note").text(side.lacking.patterns || "The attention of this head was not saved.");
    return;
  }
  part.append("h3").text("Attention");
  if (state.prompt === null) return meanPattern(part, pattern);
  const text = pattern.prompts[state.prompt], prompt = side.prompts[state.prompt];
  if (!text || !prompt) { part.append("p").attr("class", "note").text(side.lacking.patterns || "This prompt's pattern was not saved, because there are too many; the mean is of all prompts."); return meanPattern(part, pattern); }
  promptPattern(part, decoded(text), prompt, node);
}
// A table of shaded numbers, below the sentence that says what they are.
function grid(part, caption, kind = "") {
  part.append("p").attr("class", "note").text(caption);
  return part.append("div").attr("class", "scroller").attr("tabindex", 0).attr("role", "group").attr("aria-label", caption).append("table").attr("class", `grid ${kind}`).attr("aria-label", caption);
}
function decoded(text) {
  const bytes = atob(text), size = Math.round(Math.sqrt(bytes.length));
  return { size, at: (query, key) => bytes.charCodeAt(query * size + key) / 255 };
}
function meanPattern(part, pattern) {
  const table = grid(part, "Mean over prompts: how much of a row's attention goes to the tokens above", "pattern");
  const head = table.append("thead").append("tr");
  head.append("td");
  head.selectAll("th").data([...pattern.positions, "others"]).join("th").attr("scope", "col").text((name) => name);
  const rows = table.append("tbody").selectAll("tr").data(pattern.mean).join("tr");
  rows.append("th").attr("scope", "row").text((_, i) => `from ${pattern.positions[i]}`);
  rows.selectAll("td").data((row) => row).join("td").style("--weight", (value) => value).text((value) => plainNumber(value));
}
function promptPattern(part, pattern, prompt, node) {
  const own = prompt.at[node.position], tokens = prompt.clean.length;
  let query = own === undefined ? tokens - 1 : own;
  const line = part.append("p").append("label").text("From the token "), choice = line.append("select");
  choice.selectAll("option").data(d3range(tokens)).join("option").attr("value", (i) => i).text((i) => `${i}: ${visible(prompt.clean[i])}${nameAt(prompt, i)}`);
  const words = part.append("div");
  const redraw = () => {
    choice.property("value", query);
    words.selectAll("*").remove();
    wordBoxes(words, prompt, (i) => (i <= query ? pattern.at(query, i) : null));
    const best = d3range(query + 1).sort((a, b) => pattern.at(query, b) - pattern.at(query, a)).slice(0, 4).filter((i) => pattern.at(query, i) >= 0.01);
    words.append("p").attr("class", "note").text(`Most: ${best.map((i) => `${visible(prompt.clean[i])} at ${i}${nameAt(prompt, i)} ${plainNumber(pattern.at(query, i))}`).join(", ")}`);
  };
  choice.on("change", () => { query = Number(choice.property("value")); redraw(); });
  redraw();
  heatMap(part, pattern, prompt, (row) => { query = row; redraw(); });
}
const nameAt = (prompt, i) => { const names = Object.entries(prompt.at).filter(([, at]) => at === i).map(([name]) => name); return names.length ? ` (${names.join(", ")})` : ""; };
const d3range = (count) => Array.from({ length: count }, (_, i) => i);
function heatMap(part, pattern, prompt, pick) {
  const size = Math.max(3, Math.min(16, Math.floor(330 / pattern.size))), whole = size * pattern.size;
  const svg = part.append("svg").attr("class", "heat").attr("viewBox", `0 0 ${whole} ${whole}`).attr("width", whole).attr("role", "img")
    .attr("aria-label", "The whole pattern: a row for each token that attends, a column for each that is attended to. The list above has the numbers.");
  const cells = [];
  for (let q = 0; q < pattern.size; q += 1) for (let k = 0; k <= q; k += 1) { const value = pattern.at(q, k); if (value >= 0.01) cells.push({ q, k, value }); }
  svg.append("path").attr("class", "triangle").attr("d", `M0,0L${whole},${whole}L0,${whole}z`);
  svg.selectAll("rect").data(cells).join("rect").attr("x", (cell) => cell.k * size).attr("y", (cell) => cell.q * size).attr("width", size).attr("height", size).style("--weight", (cell) => cell.value)
    .on("click", (_, cell) => pick(cell.q)).append("title").text((cell) => `${visible(prompt.clean[cell.q])} at ${cell.q} attends to ${visible(prompt.clean[cell.k])} at ${cell.k}: ${plainNumber(cell.value)}`);
}
