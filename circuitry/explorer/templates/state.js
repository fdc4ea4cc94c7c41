// What is chosen, and the values that follow from it. Everything that is drawn reads from here.
const DATA = JSON.parse(document.getElementById("data").textContent);
const SIDES = DATA.sides, PAIR = SIDES.length > 1;
const state = { prompt: null, stop: 0, unit: PAIR ? "normalized" : "effect", chosen: null, hovered: null };

SIDES.forEach((side, number) => {
  side.number = number;
  side.byName = new Map(side.nodes.map((node) => [node.name, node]));
  side.nodes.forEach((node) => { node.side = number; node.key = node.name; node.is = "node"; });
  side.edges.forEach((edge, rank) => { Object.assign(edge, { side: number, rank, key: `${edge.source} → ${edge.target} ${edge.kind}`, is: "edge" }); });
  side.sized = Math.abs(side.whole) || Math.max(...side.edges.map((edge) => Math.abs(edge.effect)), 1e-12);
  side.joints = side.inside.map(([source, target]) => ({ source, target, side: number, key: `${source} → ${target}`, is: "joint" }));
});

// An effect of the mean, or of the chosen prompt; undefined where the run does not hold it.
function valueOf(item) {
  if (state.prompt === null) return item.effect;
  return item.prompts ? item.prompts[state.prompt] : undefined;
}
// As a fraction of the whole effect, by which everything is coloured: 1 carries all of the behaviour, below 0 works against it.
const shareOf = (item, value) => (finite(value) ? value / (SIDES[item.side].whole || 1) : undefined);
// A value of an item as text, in the chosen unit; empty if there is none.
function shown(item, value) {
  if (!finite(value)) return "";
  return state.unit === "normalized" && SIDES[item.side].unit !== "normalized effect" ? percent(shareOf(item, value)) : number(value);
}
const shownRange = (item) => {
  const scale = state.unit === "normalized" && SIDES[item.side].unit !== "normalized effect";
  if (!finite(item.low) || !finite(item.high)) return "";
  if (!scale) return range(item.low, item.high);
  const ends = [shareOf(item, item.low), shareOf(item, item.high)].sort((a, b) => a - b);
  return `${percent(ends[0])} to ${percent(ends[1])}`;
};

// The effect of a node in a discovery of edges is that of its strongest drawn edge.
function strongest(node, edges) {
  const own = edges.filter((edge) => (edge.source === node.name || edge.target === node.name) && finite(valueOf(edge)));
  return own.reduce((best, edge) => (!best || Math.abs(valueOf(edge)) > Math.abs(valueOf(best)) ? edge : best), null);
}
const nodeValue = (node, edges) => (SIDES[node.side].level === "edge" ? valueOf(strongest(node, edges) || {}) : valueOf(node));

// The largest share on any side, mean or prompt, at which colours and widths end: one scale for all.
function most() {
  const items = SIDES.flatMap((side) => [...side.edges, ...side.nodes]);
  return Math.max(...items.map((item) => Math.abs(shareOf(item, item.effect) || 0)), 1e-12);
}
const MOST = most();
