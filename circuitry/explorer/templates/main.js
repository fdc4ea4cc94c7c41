// Puts it together.
function redraw() {
  const focused = document.activeElement && document.activeElement.closest("g.node, g.edge") ? d3.select(document.activeElement).datum() : null;
  SIDES.forEach(drawSide);
  const gone = state.chosen && !SIDES[state.chosen.side].parts[state.chosen.is === "node" ? "nodes" : "edges"].includes(state.chosen);
  if (gone) state.chosen = null;
  drawThreshold();
  drawPrompts();
  drawWords();
  drawLegend();
  drawList();
  drawPanel();
  highlight(null);
  if (focused && elementOf(focused)) focusOn(elementOf(focused));
}
function drawLegend() {
  const box = d3.select("#legend"), side = SIDES[0];
  box.selectAll("*").remove();
  const entry = (kind, text) => { const part = box.append("span"); part.append("i").attr("class", kind); part.append("span").text(text); return part; };
  entry("swatch carries", "carries the behaviour");
  entry("swatch against", "works against it");
  if (SIDES.some((each) => each.edges.length)) entry("stroke", `wider: larger ${side.level === "edge" ? "attribution" : "effect"}`);
  if (SIDES.some((each) => each.parts.joints.length)) entry("stroke joint", "inside one block: no number of its own");
  if (SIDES.some((each) => each.nodes.some((node) => / these heads/.test(node.name)))) entry("swatch", "“k of these heads”: the keys of all heads above it, patched at once");
  if (SIDES.some((each) => each.positions.includes("every position"))) entry("swatch", "“every position”: patched at all tokens at once");
  ROLES.forEach((role) => entry("swatch role", role.role).select("i").style("background", role.colour));
  if (PAIR && ROLES.length) box.append("p").attr("class", "note").text("Links join nodes whose roles are taken to correspond, as in circuitry compare; this is not measured.");
  const names = SIDES.map((each) => each.unit).filter((unit, i, all) => all.indexOf(unit) === i);
  SIDES.forEach((each) => each.nodes.filter((node) => node.whole && finite(node.effect) && each.unit === "normalized effect").forEach((node) => box.append("p").attr("class", "note")
    .text(`${PAIR ? `${each.title}: ` : ""}1 is the effect of exchanging the whole prompt, which the logits have: ${number(node.whole.mean)}, ${node.whole.unit}.`)));
  box.append("p").attr("class", "note").text(`Numbers: ${state.unit === "normalized" && !names.includes("normalized effect") ? "share of the effect of exchanging the whole prompt" : names.join("; ")}${side.level === "edge" ? ", estimated by " + side.measure.replace("attribution by ", "") + ", exact where verified" : ""}.`);
}
function drawList() {
  const box = d3.select("#list .scroller");
  box.selectAll("*").remove();
  SIDES.forEach((side) => {
    if (PAIR) box.append("h3").text(side.title);
    if (side.parts.edges.length) edgeTable(box, [...side.parts.edges].sort((a, b) => Math.abs(b.effect) - Math.abs(a.effect)), side);
    else if (!side.edges.length && side.parts.nodes.length) nodeTable(box, side.parts.nodes.filter((node) => finite(node.effect)).sort((a, b) => Math.abs(b.effect) - Math.abs(a.effect)));
    else box.append("p").text("No edge is drawn.");
  });
}
function setUpUnits() {
  const either = SIDES.every((side) => side.unit !== "normalized effect") && SIDES.every((side) => finite(side.whole));
  d3.select("#units").property("hidden", !either || PAIR);
  d3.select("#unit-name").text(SIDES[0].unit);
  d3.selectAll("input[name=unit]").on("change", (event) => { state.unit = event.target.value; redraw(); });
}
setUpPrompts();
setUpUnits();
state.stop = firstStop();
document.getElementById("keys-button").addEventListener("click", toggleKeys);
redraw();
d3.selectAll(".side .scroller").each(function () { this.scrollLeft = this.scrollWidth; }); // where the answer is
watch();
let width = innerWidth;
addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; redraw(); } });
document.querySelectorAll(".side .scroller").forEach((scroller) => scroller.addEventListener("scroll", drawLinks, { passive: true }));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
addEventListener("beforeprint", () => { document.documentElement.classList.add("printing"); redraw(); });
addEventListener("afterprint", () => { document.documentElement.classList.remove("printing"); redraw(); });
