// The threshold, and what is left of the behaviour at it: from the discovery's curve where there is one.
const SHARES = SIDES.map((side) => (side.level === "edge" ? side.edges : [...side.edges, ...side.nodes]).map((item) => Math.abs(shareOf(item, item.effect))).filter((share) => share > 0).sort((a, b) => b - a));
const STOPS = stops();
function stops() {
  const found = new Set();
  SIDES.forEach((side, n) => {
    const sizes = new Set([side.start, side.scored ? side.scored.size : 0, ...(side.curve ? side.curve.sizes : []), SHARES[n].length]);
    for (let size = 1; size <= SHARES[n].length; size = Math.max(size + 1, Math.floor(size * 1.06))) sizes.add(size);
    sizes.forEach((size) => { if (size > 0 && size <= SHARES[n].length) found.add(SHARES[n][size - 1]); });
  });
  return found.size ? [...found].sort((a, b) => b - a) : [0];
}
function setStop(stop) {
  state.stop = Math.max(0, Math.min(STOPS.length - 1, stop));
  redraw();
}
d3.select("#threshold").property("hidden", STOPS.length < 2);
const slider = d3.select("#slider").attr("max", STOPS.length - 1).on("input", () => setStop(Number(slider.property("value"))));

// How faithful the best ``count`` edges are: measured at this size, or between two sizes that were.
function faithfulness(side, count) {
  const curve = side.curve, scored = side.scored;
  if (scored && scored.size === count) return `this circuit keeps ${percent(scored.faithfulness)} of the behaviour (${percent(scored.interval[0])} to ${percent(scored.interval[1])})`;
  if (!curve) return "";
  const at = curve.sizes.indexOf(count), value = (i) => plainNumber(curve.faithfulness[i]);
  if (at >= 0) return `faithfulness ${value(at)} (${plainNumber(curve.low[at])} to ${plainNumber(curve.high[at])}) of the best ${count} ${side.level}s`;
  const after = curve.sizes.findIndex((size) => size > count);
  if (after === 0) return `faithfulness not measured below ${curve.sizes[0]} ${side.level}s`;
  if (after < 0) return "";
  return `faithfulness between ${value(after - 1)} (${curve.sizes[after - 1]} ${side.level}s) and ${value(after)} (${curve.sizes[after]})`;
}
function said(side) {
  const parts = side.parts, lines = [];
  if (side.level === "edge") {
    lines.push(`${parts.above} edges${parts.edges.length < parts.above ? `, ${parts.edges.length} of them on a way from embedding to logits` : ""}`);
    lines.push(faithfulness(side, parts.above));
  } else if (side.curve) {
    lines.push(`${parts.nodes.length} of ${side.nodes.length} ${side.level}s`, faithfulness(side, parts.nodes.length));
  } else lines.push(`${parts.nodes.length} of ${side.nodes.length} nodes${side.edges.length ? `, ${parts.edges.length} of ${side.edges.length} edges` : ""}`);
  return `${PAIR ? `${side.title}: ` : ""}${lines.filter(Boolean).join("; ")}`;
}
const digits = (value) => (value >= 99.5 ? value.toFixed(0) : value.toPrecision(2));
function least() {
  const share = STOPS[state.stop], side = SIDES[0], exactly = (value) => minus(value < 0.0095 ? value.toPrecision(1) : value < 0.0995 ? value.toFixed(3) : value.toFixed(2));
  if (PAIR || side.unit === "normalized effect") return `at least ${digits(100 * share)} % of the whole effect`;
  return `|${side.level === "edge" ? "attribution" : "effect"}| ≥ ${exactly(share * Math.abs(side.whole))} (${digits(100 * share)} % of the whole effect)`;
}
function drawThreshold() {
  slider.property("value", state.stop).attr("aria-valuetext", `${least()}; ${SIDES.map(said).join("; ")}`);
  const lines = [least(), ...SIDES.map(said)];
  d3.select("#kept").selectAll("span").data(lines).join("span").text((line) => line);
  drawCurve();
}
function drawCurve() {
  const curves = SIDES.filter((side) => side.curve);
  d3.select("#curve").property("hidden", !curves.length);
  if (!curves.length) return;
  const W = 300, H = 108, left = 30, bottom = 18, sizes = curves.flatMap((side) => side.curve.sizes), top = Math.min(2, Math.max(1.05, ...curves.flatMap((side) => side.curve.faithfulness)));
  const low = Math.max(-0.5, Math.min(0, ...curves.flatMap((side) => side.curve.faithfulness)));
  const [first, last] = [1, Math.max(...sizes)].map(Math.log), x = (size) => left + ((W - left - 8) * (Math.log(Math.max(1, size)) - first)) / (last - first || 1);
  const y = (value) => H - bottom - ((H - bottom - 8) * (Math.max(low, Math.min(top, value)) - low)) / (top - low);
  const box = d3.select("#curve");
  box.selectAll("*").remove();
  box.append("p").attr("class", "label").text("Faithfulness of the best edges alone");
  const svg = box.append("svg").attr("viewBox", `0 0 ${W} ${H}`).attr("role", "img").attr("aria-label", `Faithfulness by circuit size. ${SIDES.map(said).join(". ")}`);
  [0, 1].forEach((value) => { svg.append("line").attr("class", "grid").attr("x1", left).attr("x2", W - 8).attr("y1", y(value)).attr("y2", y(value)); svg.append("text").attr("x", left - 5).attr("y", y(value) + 4).attr("text-anchor", "end").text(value); });
  [1, 10, 100, 1000, 10000, 100000, 1000000].filter((size) => size <= Math.max(...sizes)).forEach((size) => svg.append("text").attr("x", x(size)).attr("y", H - 4).attr("text-anchor", "middle").text(size >= 1000 ? `${size / 1000}k` : size));
  curves.forEach((side) => {
    const points = side.curve.sizes.map((size, i) => ({ size, i })), line = (name) => d3.line((point) => x(point.size), (point) => y(side.curve[name][point.i]))(points);
    svg.append("path").attr("class", "band").attr("d", d3.area((point) => x(point.size), (point) => y(side.curve.low[point.i]), (point) => y(side.curve.high[point.i]))(points));
    if (side.curve.random.every(finite)) svg.append("path").attr("class", "random").attr("d", line("random"));
    svg.append("path").attr("class", `line side-${side.number}`).attr("d", line("faithfulness"));
    svg.selectAll(null).data(points).join("circle").attr("class", `side-${side.number}`).attr("cx", (point) => x(point.size)).attr("cy", (point) => y(side.curve.faithfulness[point.i])).attr("r", 3)
      .on("click", (_, point) => toSize(side, point.size)).append("title").text((point) => `${point.size} ${side.level}s: ${plainNumber(side.curve.faithfulness[point.i])} (${plainNumber(side.curve.low[point.i])} to ${plainNumber(side.curve.high[point.i])}), random ${plainNumber(side.curve.random[point.i])}`);
    const now = side.level === "edge" ? side.parts.above : side.parts.nodes.length;
    svg.append("line").attr("class", `now side-${side.number}`).attr("x1", x(now)).attr("x2", x(now)).attr("y1", 4).attr("y2", H - bottom);
  });
}
function toSize(side, size) {
  const share = SHARES[side.number][size - 1];
  if (share !== undefined) setStop(STOPS.indexOf(share));
}
// A run opens at its own circuit; a suite's at all of it.
function firstStop() {
  const starts = SIDES.map((side, n) => (side.start && SHARES[n].length ? SHARES[n][Math.min(side.start, SHARES[n].length) - 1] : 0)).filter((share) => share > 0);
  if (!starts.length) return STOPS.length - 1;
  const share = Math.min(...starts);
  return Math.max(0, STOPS.findIndex((stop) => stop <= share * (1 + 1e-9)));
}
