// The switch between the mean of all prompts and single ones, with the whole effect of each: a bad prompt is seen at once.
const COUNT = Math.max(...SIDES.map((side) => Math.max(side.examples.length, side.prompts.length)), 0);

function setUpPrompts() {
  const side = SIDES[0], names = d3range(COUNT).map((i) => {
    const prompt = side.prompts[i], text = prompt ? prompt.clean.join("").trim().replace(/\s+/g, " ") : "";
    return `${side.examples[i] ?? i}${text ? `: ${text.length > 40 ? `…${text.slice(-39)}` : text}` : ""}`;
  });
  const select = d3.select("#prompt").on("change", () => { const value = select.property("value"); setPrompt(value === "mean" ? null : Number(value)); });
  select.append("option").attr("value", "mean").text(`mean of ${COUNT} prompts`);
  names.forEach((name, i) => select.append("option").attr("value", i).text(`prompt ${name}`));
  d3.select("#earlier").on("click", () => stepPrompt(-1));
  d3.select("#later").on("click", () => stepPrompt(1));
  d3.select("#choice").property("hidden", COUNT === 0);
}
function setPrompt(prompt) {
  state.prompt = prompt !== null && (prompt < 0 || prompt >= COUNT) ? null : prompt;
  redraw();
}
const stepPrompt = (step) => setPrompt(state.prompt === null ? (step > 0 ? 0 : COUNT - 1) : state.prompt + step);

function drawPrompts() {
  d3.select("#prompt").property("value", state.prompt === null ? "mean" : state.prompt);
  const side = SIDES[0], values = side.whole_by_prompt, box = d3.select("#bars");
  box.selectAll("*").remove();
  if (!values.length) return;
  const W = 300, H = 44, high = Math.max(0, ...values), low = Math.min(0, ...values), y = (value) => 2 + ((H - 4) * (high - value)) / (high - low || 1), w = Math.min(22, (W - 2) / values.length);
  const svg = box.append("svg").attr("viewBox", `0 0 ${W} ${H}`);
  svg.append("line").attr("class", "grid").attr("x1", 0).attr("x2", W).attr("y1", y(0)).attr("y2", y(0));
  const sign = Math.sign(values.reduce((a, b) => a + b, 0)) || 1;
  svg.selectAll("rect").data(values).join("rect").attr("x", (_, i) => i * w + 1).attr("width", Math.max(1, w - 2)).attr("y", (value) => Math.min(y(0), y(value))).attr("height", (value) => Math.max(1, Math.abs(y(0) - y(value))))
    .attr("class", (value, i) => `${value * sign < 0 ? "against" : "carries"}${i === state.prompt ? " now" : ""}`).on("click", (_, value) => setPrompt(values.indexOf(value)))
    .append("title").text((value, i) => `prompt ${side.examples[i]}: exchanging it changes the metric by ${number(value)}`);
  box.append("p").attr("class", "label").text("Whole effect of each prompt");
}
