// What is left above a threshold, and where it is drawn: columns are positions, rows are nodes of one kind in one layer.
function kept(side) {
  const least = STOPS[state.stop] * (1 - 1e-9);
  const strong = (item) => finite(item.effect) && Math.abs(shareOf(item, item.effect)) >= least;
  if (side.level === "edge") return connected(side, side.edges.filter(strong));
  const nodes = side.nodes.filter((node) => !finite(node.effect) || strong(node)), names = new Set(nodes.map((node) => node.name));
  const inside = (edge) => names.has(edge.source) && names.has(edge.target);
  const edges = side.edges.filter((edge) => strong(edge) && inside(edge));
  return { nodes, edges, joints: side.joints.filter(inside), above: edges.length };
}

// As Discovery.circuit draws it: edges that are on no way from the embedding to the logits are left out.
function connected(side, edges) {
  const targets = new Set(edges.map((edge) => edge.target)), sources = new Set(edges.map((edge) => edge.source));
  const joints = side.joints.filter((joint) => targets.has(joint.source) && sources.has(joint.target));
  const all = [...edges, ...joints], roles = (role) => side.nodes.filter((node) => node.role === role).map((node) => node.name);
  const after = reached(all, roles("embed"), "source", "target"), before = reached(all, roles("logits"), "target", "source");
  const live = (name) => after.has(name) && before.has(name), both = (item) => live(item.source) && live(item.target);
  const drawn = edges.filter(both), ends = new Set([...drawn, ...joints.filter(both)].flatMap((item) => [item.source, item.target]));
  return { nodes: side.nodes.filter((node) => ends.has(node.name)), edges: drawn, joints: joints.filter(both), above: edges.length };
}
function reached(items, starts, from, to) {
  const next = new Map();
  items.forEach((item) => next.set(item[from], [...(next.get(item[from]) || []), item[to]]));
  const found = new Set(), open = starts.filter((name) => items.some((item) => item[from] === name || item[to] === name));
  while (open.length) {
    const name = open.pop();
    if (found.has(name)) continue;
    found.add(name);
    open.push(...(next.get(name) || []));
  }
  return found;
}

const measure = (() => {
  const context = document.createElement("canvas").getContext("2d");
  return (text, size, bold = false) => { context.font = `${bold ? 600 : 400} ${size}px system-ui, sans-serif`; return context.measureText(text).width; };
})();

// A long name is broken before its indices where the page is narrow.
function linesOf(node, tight) {
  const at = node.label.indexOf("[");
  const lines = tight && at > 0 ? [node.label.slice(0, at), node.label.slice(at)] : [node.label];
  return node.note ? [...lines, node.note.length > 28 ? `${node.note.slice(0, 27)}…` : node.note] : lines;
}

// Broken names and smaller letters where whole names would not fit.
function layout(side, parts, width) {
  const plan = width < 560 ? null : place(side, parts, width, false);
  return plan && plan.width <= width + 1 ? plan : place(side, parts, width, true);
}
function place(side, parts, width, tight) {
  const size = tight ? 11 : 13, line = size * 1.3, gap = tight ? 6 : 10;
  const columns = side.positions.filter((position) => parts.nodes.some((node) => node.position === position));
  const cells = new Map(), boxes = new Map();
  for (const node of parts.nodes) {
    const lines = linesOf(node, tight), value = shown(node, nodeValue(node, parts.edges));
    const w = Math.max(...lines.map((text) => measure(text, size)), measure(value, size), 24) + (tight ? 10 : 16);
    boxes.set(node.name, { node, lines, value, w, h: (lines.length + (value ? 1 : 0)) * line + 8, size, line });
    const key = `${node.position}|${node.row}`;
    cells.set(key, [...(cells.get(key) || []), node]);
  }
  const words = (position) => columnWords(side, position).map((word) => word.text);
  const left = tight ? 22 : 62, span = (nodes) => nodes.reduce((sum, node) => sum + boxes.get(node.name).w + gap, -gap);
  const broken = (nodes, most) => Array.from({ length: Math.ceil(nodes.length / most) }, (_, i) => nodes.slice(i * most, (i + 1) * most));
  const widths = (most) => columns.map((position) => {
    const own = [...cells].filter(([key]) => key.startsWith(`${position}|`)).flatMap(([, nodes]) => broken(nodes, most).map(span));
    return Math.max(...own, ...words(position).map((word) => measure(word, size, true)), 28) + (tight ? 14 : 30);
  });
  let perLine = Math.max(...[...cells.values()].map((nodes) => nodes.length), 1);
  while (perLine > 1 && left + widths(perLine).reduce((a, b) => a + b, 0) > width) perLine -= 1;
  const natural = widths(perLine), sum = natural.reduce((a, b) => a + b, 0), spare = Math.max(0, Math.min(width, 1100) - left - sum - 8) / Math.max(columns.length, 1);
  const stretch = Math.min(spare, 90);
  let x = left;
  const placed = columns.map((position, i) => { const at = { position, left: x, right: (x += natural[i] + stretch), words: columnWords(side, position) }; return at; });
  const rows = [...new Set(parts.nodes.map((node) => node.row))].sort((a, b) => a - b);
  const foot = (tight ? 20 : 24) + Math.max(1, ...placed.map((column) => column.words.length)) * line;
  let y = foot + 10;
  const bands = [];
  for (const row of rows) {
    const stacks = columns.map((position) => broken(cells.get(`${position}|${row}`) || [], perLine));
    const high = Math.max(...parts.nodes.filter((node) => node.row === row).map((node) => boxes.get(node.name).h));
    const layer = parts.nodes.find((node) => node.row === row).layer, last = bands[bands.length - 1];
    const newBand = !last || last.layer !== layer;
    if (newBand && last) y += tight ? 8 : 12;
    const bottom = y;
    stacks.forEach((stack, column) => stack.forEach((nodes, level) => {
      const middle = (placed[column].left + placed[column].right) / 2, at = bottom + level * (high + gap) + high / 2;
      let start = middle - span(nodes) / 2;
      for (const node of nodes) { const box = boxes.get(node.name); Object.assign(box, { x: start + box.w / 2, y: at, column, row }); start += box.w + gap; }
    }));
    const count = Math.max(...stacks.map((stack) => stack.length));
    y = bottom + count * (high + gap) - gap;
    if (newBand) bands.push({ layer, low: bottom, high: y }); else last.high = y;
    y += tight ? 26 : 34;
  }
  const height = y - (tight ? 14 : 20), total = Math.max(x + 6, PAIR ? 0 : 200);
  boxes.forEach((box) => { box.y = height - box.y; });
  bands.forEach((band) => { [band.top, band.bottom] = [height - band.high - 10, height - band.low + 10]; });
  return { boxes, columns: placed, bands, width: total, height, foot, tight, size, line };
}

// What stands under a column: the position, and for a single prompt its token, and the corrupted one if it differs.
function columnWords(side, position) {
  const words = [{ text: position, kind: "position" }], prompt = state.prompt === null ? null : side.prompts[state.prompt];
  const at = prompt && prompt.at[position];
  if (prompt && at !== undefined && prompt.clean[at] !== undefined) {
    words.push({ text: visible(prompt.clean[at]), kind: "clean" });
    if (prompt.corrupted[at] !== prompt.clean[at]) words.push({ text: visible(prompt.corrupted[at]), kind: "corrupted" });
  }
  return words;
}
const visible = (token) => token.replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/^ /, "␣") || "∅";
