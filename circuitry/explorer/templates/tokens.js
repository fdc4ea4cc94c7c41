// The chosen prompt as boxes of tokens, with the names of positions, what the corrupted prompt has instead, and what the model answers.
function drawWords() {
  const box = d3.select("#words");
  box.selectAll("*").remove();
  SIDES.forEach((side) => {
    if (state.prompt === null) return;
    const part = box.append("section"), prompt = side.prompts[state.prompt];
    part.append("h2").text(PAIR ? `Prompt in ${side.title}` : `Prompt ${prompt ? prompt.number : ""}`);
    if (!prompt) { part.append("p").attr("class", "note").text(side.lacking.prompts || "This prompt was not saved."); return; }
    wordBoxes(part, prompt, () => null);
    answers(part, prompt);
    if (side.kind === "suite") part.append("p").attr("class", "note").text("These are the prompts of the run's own task. A table whose task has other options, such as another corruption, has other prompts under the same numbers; its path says so.");
  });
}
// Tokens as boxes; ``shade`` gives a fraction by which a token is shaded, or null.
function wordBoxes(part, prompt, shade, each = "clean") {
  const names = new Map();
  Object.entries(prompt.at).forEach(([name, at]) => names.set(at, [...(names.get(at) || []), name]));
  const list = part.append("ol").attr("class", "tokens");
  const items = list.selectAll("li").data(prompt[each]).join("li").classed("changed", (token, i) => prompt.corrupted[i] !== prompt.clean[i]);
  items.append("span").attr("class", "token").text((token) => visible(token)).style("--weight", (_, i) => { const value = shade(i); return finite(value) ? value : null; })
    .classed("shaded", (_, i) => finite(shade(i))).attr("title", (_, i) => (finite(shade(i)) ? plainNumber(shade(i)) : null));
  items.filter((token, i) => prompt.corrupted[i] !== prompt.clean[i]).append("span").attr("class", "instead").text((_, i, group) => "").each(function () {
    const i = [...list.node().children].indexOf(this.parentNode);
    this.textContent = visible((each === "clean" ? prompt.corrupted : prompt.clean)[i]);
  });
  items.filter((_, i) => names.has(i)).append("span").attr("class", "name").each(function () { this.textContent = names.get([...list.node().children].indexOf(this.parentNode)).join(", "); });
  return items;
}
function answers(part, prompt) {
  const rows = [["clean", prompt.clean_answers], ["corrupted", prompt.corrupted_answers]];
  const table = part.append("div").attr("class", "scroller").append("table").attr("class", "answers");
  table.append("caption").text(`What comes next: expected ${quoted(prompt.answer)}, compared with ${quoted(prompt.foil)}`);
  const lines = table.append("tbody").selectAll("tr").data(rows).join("tr");
  lines.append("th").attr("scope", "row").text((row) => row[0]);
  const cells = lines.selectAll("td").data((row) => row[1]).join("td").classed("expected", (pair) => pair[0] === prompt.answer);
  cells.append("span").attr("class", "token").text((pair) => visible(pair[0]));
  cells.append("span").attr("class", "probability").text((pair) => ` ${plainNumber(100 * pair[1], pair[1] < 0.095 ? 1 : 0)} %`);
}
const quoted = (token) => `“${visible(token)}”`;
