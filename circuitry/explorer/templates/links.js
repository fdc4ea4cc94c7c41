// Two models: nodes of matched roles are linked and share a colour.
const HUES = ["#c2410c", "#7c3aed", "#0f766e", "#a16207", "#be185d", "#4d7c0f"];
const ROLES = DATA.links.map((link, i) => ({ ...link, colour: HUES[i % HUES.length], names: link.nodes.map((names) => new Set(names)) }));
const roleOf = (node) => ROLES.find((role) => role.names[node.side] && role.names[node.side].has(node.name)) || null;
const roleColour = (node) => (PAIR && roleOf(node) ? roleOf(node).colour : "transparent");

function matchedNodes(item) {
  const role = item.is === "node" ? roleOf(item) : null;
  return role ? SIDES.filter((side) => side.number !== item.side).flatMap((side) => side.parts.nodes.filter((node) => role.names[side.number].has(node.name))) : [];
}
function drawMatches(side, node) {
  if (!PAIR) return;
  const role = roleOf(node), others = matchedNodes(node);
  panel.append("h3").text("In the other model");
  if (!role) { panel.append("p").attr("class", "note").text("No node of the other circuit has a role that corresponds to this one."); return; }
  const line = panel.append("p").text(`${role.role}: `);
  if (!others.length) line.append("span").text("nothing that is left at this threshold");
  others.forEach((other, i) => {
    if (i) line.append("span").text(", ");
    line.append("button").attr("type", "button").attr("class", "link").text(`${other.label} at ${other.position}`).on("click", () => choose(other, true));
  });
}
function drawLinks() {
  const svg = d3.select("#links");
  if (svg.empty()) return;
  const frame = document.getElementById("sides").getBoundingClientRect(), about = state.hovered || state.chosen;
  svg.attr("width", frame.width).attr("height", frame.height).attr("viewBox", `0 0 ${frame.width} ${frame.height}`);
  const lines = ROLES.flatMap((role) => pairsOf(role, about).map((pair) => ({ role, ...pair })));
  const stacked = lines.length && d3.select(".side").node().getBoundingClientRect().width > frame.width * 0.75;
  const seen = (node) => { const own = elementOf(node).getBoundingClientRect(), frame = elementOf(node).closest(".scroller").getBoundingClientRect(); return own.left < frame.right && own.right > frame.left; };
  svg.selectAll("path").data(lines.filter(({ from, to }) => seen(from) && seen(to))).join("path").attr("stroke", (line) => line.role.colour).classed("strong", (line) => line.strong).attr("d", ({ from, to }) => {
    const [a, b] = [from, to].map((node) => elementOf(node).querySelector("rect").getBoundingClientRect()), at = (x, y) => [x - frame.left, y - frame.top];
    if (stacked) return vertical({ source: at(a.left + a.width / 2, a.bottom), target: at(b.left + b.width / 2, b.top) });
    return sideways({ source: at(a.right, a.top + a.height / 2), target: at(b.left, b.top + b.height / 2) });
  });
}
// The strongest node of a role on each side; all of them for the node that is looked at.
function pairsOf(role, about) {
  const nodes = SIDES.map((side) => side.parts.nodes.filter((node) => role.names[side.number].has(node.name)));
  const size = (node) => Math.abs(shareOf(node, nodeValue(node, SIDES[node.side].parts.edges)) || 0), best = nodes.map((side) => [...side].sort((a, b) => size(b) - size(a))[0]);
  if (!best[0] || !best[1]) return [];
  if (about && about.is === "node" && roleOf(about) === role) {
    return nodes[1 - about.side].map((other) => ({ from: about.side ? other : about, to: about.side ? about : other, strong: true }));
  }
  return [{ from: best[0], to: best[1], strong: false }];
}
