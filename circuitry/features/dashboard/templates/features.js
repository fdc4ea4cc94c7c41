"use strict";
// The data are in the page as JSON. Text of documents reaches the page through textContent only.
const { matches, features, texts, names } = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const list = find("list"), panel = find("match"), form = find("filters");
let chosen = null; // the match that is shown
let visible = [];

function make(tag, text, attributes = {}) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}
const sign = (value) => (value === null || value === undefined ? "–" : String(value).replace("-", "−"));
const level = (value) => sign(Math.abs(value) < 100 ? value.toPrecision(3) : Math.round(value)); // an activation
const fixed = (value) => (value === null ? "–" : value.toFixed(2).replace("-", "−"));
const percent = (share) => (share === null ? "–" : share > 0 && share < 0.0001 ? "< 0.01 %" : `${Number((100 * share).toPrecision(2))} %`);
const readable = (token) => token.replaceAll("\n", "↵").replaceAll("\t", "⇥").replaceAll("\r", "␍").replace(/^ +$/, (gap) => "␣".repeat(gap.length));
const plain = (text) => text.toLowerCase().replace(/\s+/g, " ");

for (const match of matches) {
  match.sides = [features[0][match.a], features[1][match.b]];
  const said = match.sides.flatMap((side) => side.contexts.map((context) => context.t.map((token) => texts[token]).join("")));
  match.text = plain(said.join("\n\u0000\n"));
  match.name = match.sides.map((side) => `${side.node} ${side.feature}`).join(" and ");
}

// Order and filters ------------------------------------------------------------------------------------------------------------
const rate = (side) => side.fires / side.tokens;
const score = (name) => (match) => match.scores?.[name] ?? Infinity;
const ORDERS = {
  "MPPC, highest first": (match) => -match.mppc,
  "MPPC, lowest first": (match) => match.mppc,
  "furthest above chance": (match) => (match.null === null ? Infinity : match.null - match.mppc),
  [`layer of ${names[0]}`]: (match) => match.sides[0].layer,
  [`layer of ${names[1]}`]: (match) => match.sides[1].layer,
  [`firing rate in ${names[0]}, highest first`]: (match) => -rate(match.sides[0]),
  "feature number": (match) => match.sides[0].feature,
};
for (const name of Object.keys(matches.find((match) => match.scores)?.scores ?? {})) ORDERS[`${name}, lowest first`] = score(name);
if (matches.every((match) => match.null === null)) delete ORDERS["furthest above chance"];
for (const name of Object.keys(ORDERS)) find("order").append(make("option", name));
["layer-a", "layer-b"].forEach((id, side) => {
  const nodes = new Map(matches.map((match) => [match.sides[side].layer, match.sides[side].node]));
  for (const [layer, node] of [...nodes].sort((one, other) => one[0] - other[0])) find(id).append(make("option", node, { value: layer }));
});

function wanted(match) {
  const value = (id) => find(id).value;
  const text = plain(value("text").trim());
  return (!text || match.text.includes(text))
    && (!find("mutual").checked || match.mutual)
    && (!value("number") || match.sides.some((side) => side.feature === Number(value("number"))))
    && ["layer-a", "layer-b"].every((id, side) => !value(id) || match.sides[side].layer === Number(value(id)))
    && (!value("low") || match.mppc >= Number(value("low")))
    && (!value("high") || match.mppc <= Number(value("high")));
}
find("mutual-only").hidden = !matches.some((match) => match.mutual !== null);
function refresh() {
  const key = ORDERS[find("order").value];
  visible = matches.filter(wanted).map((match) => [key(match), match]).sort((one, other) => (one[0] === other[0] ? 0 : one[0] - other[0])).map(([, match]) => match);
  list.replaceChildren(...visible.map(row));
  list.hidden = !visible.length;
  list.scrollTop = 0;
  find("count").textContent = `${visible.length.toLocaleString("en")} of ${matches.length.toLocaleString("en")} matches` + (visible.length ? "" : "; a wider range or another text would show more");
  if (!visible.includes(chosen)) show(visible[0] ?? null); else show(chosen);
}

// The list ---------------------------------------------------------------------------------------------------------------------
function row(match) {
  const button = make("button", undefined, { type: "button" });
  const [a, b] = match.sides;
  const peaks = [...new Set(a.contexts.map((context) => readable(texts[context.t[context.p]]).trim()))].slice(0, 5).join(" · ");
  button.append(make("b", fixed(match.mppc)), make("span", `${a.node} #${a.feature} – ${b.node} #${b.feature}`), make("small", peaks));
  button.addEventListener("click", () => { show(match); arrive(); });
  match.button = button;
  const item = make("li");
  item.append(button);
  return item;
}
function arrive() { // where the list stands above the match, the match is brought into view
  if (panel.getBoundingClientRect().top > innerHeight / 2) panel.parentElement.scrollIntoView({ block: "start" });
}
[["previous", -1], ["next", 1]].forEach(([id, step]) => find(id).addEventListener("click", () => {
  const next = visible[visible.indexOf(chosen) + step];
  show(next);
  next.button.scrollIntoView({ block: "nearest" });
  panel.parentElement.scrollIntoView({ block: "nearest" });
}));
list.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key];
  if (!step) return;
  event.preventDefault();
  const at = visible.findIndex((match) => match.button === document.activeElement);
  const next = visible[Math.min(Math.max(at + step, 0), visible.length - 1)];
  next.button.focus();
  show(next);
});

// One match --------------------------------------------------------------------------------------------------------------------
function show(match) {
  chosen = match;
  for (const one of visible) one.button.tabIndex = one === match ? 0 : -1; // one stop for the tab key; arrows move inside
  list.querySelector("[aria-current]")?.removeAttribute("aria-current");
  find("steps").hidden = !match;
  find("previous").disabled = visible.indexOf(match) < 1;
  find("next").disabled = visible.indexOf(match) > visible.length - 2;
  if (!match) return panel.replaceChildren();
  match.button.setAttribute("aria-current", "true");
  const title = make("h2", `MPPC ${fixed(match.mppc)}`);
  const chance = match.null === null ? [] : [`${fixed(match.null)} by chance`];
  const mutual = match.mutual === null ? [] : [match.mutual ? "each is the other’s best match" : "best match in one direction only"];
  const shared = match.shared > 1 ? [`best match of ${match.shared.toLocaleString("en")} features`] : [];
  const scores = Object.entries(match.scores ?? {}).map(([name, value]) => `${name}: ${sign(value)}`);
  title.append(make("small", [...chance, ...mutual, ...shared, ...scores].join("; ")));
  const sides = make("div", undefined, { class: "sides" });
  sides.append(...match.sides.map((feature, number) => side(feature, number, match)));
  const written = match.explanation ? [make("p", `What the scorer wrote of ${names[0]}’s feature:\n${match.explanation}`, { class: "explanation" })] : [];
  panel.replaceChildren(title, ...written, sides);
}
function side(feature, number, match) {
  const box = make("div", undefined, { class: number ? "two" : "one" });
  const facts = make("dl", undefined, { class: "facts" });
  const told = { node: feature.node, feature: feature.feature, depth: percent(feature.depth), "fires on": percent(rate(feature)), highest: level(feature.most) };
  if (feature.depth === null) delete told.depth;
  for (const [name, value] of Object.entries(told)) {
    const pair = make("div");
    pair.append(make("dt", name), make("dd", value));
    facts.append(pair);
  }
  const key = make("p", undefined, { class: "key" }), other = match.sides[1 - number], beside = match.beside[number];
  key.append(make("b", names[number]), ", and below it ", make("b", names[1 - number], { class: "other" }), " on the same tokens");
  const head = make("li", undefined, { class: "head" });
  head.append(make("span", "peak", { class: "top" }), make("span", "top contexts"));
  head.firstChild.append(make("small", "elsewhere"));
  let at = 0; // the contexts of beside are numbered through
  const windows = (contexts, name, head) => {
    const list = make("ol", undefined, { class: `windows ${name}` });
    list.append(...(head ? [head] : []), ...contexts.map((context) => line(context, feature, other, beside[at++])));
    return list;
  };
  box.append(make("h3", names[number]), facts, histogram(feature), ...effects(feature), key, windows(feature.contexts, "contexts", head));
  for (const { level: quantile, contexts } of feature.lower) {
    if (!contexts.length) continue;
    box.append(make("h4", `around the ${Math.round(100 * quantile)}th percentile of its activations`), windows(contexts, "lower"));
  }
  return box;
}
function effects(feature) { // the tokens that it promotes and suppresses, where the page has them
  if (!feature.up) return [];
  const list = make("dl", undefined, { class: "effects" });
  for (const [name, found] of [["promotes", feature.up], ["suppresses", feature.down]]) {
    const value = make("dd");
    for (const [token, effect] of found) value.append(make("span", readable(texts[token]), { title: `${effect > 0 ? "+" : ""}${level(effect)} on its logit` }), " ");
    list.append(make("dt", name), value);
  }
  return [list];
}
function tokens(context, values, most, name) { // the text of a context, coloured by activations
  const text = make("span", undefined, { class: name });
  context.t.forEach((token, at) => {
    const [, gap, word] = readable(texts[token]).match(/^( *)(.*)$/s);
    const piece = make("span", word), value = values[at];
    if (value > 0) {
      piece.title = `${level(value)} on this token`;
      piece.style.setProperty("--on", (0.12 + 0.53 * Math.min(1, value / most)).toFixed(2));
    }
    if (at === context.p) piece.className = "peak";
    text.append(gap, piece);
  });
  return text;
}
function line(context, feature, other, pairs) {
  const item = make("li"), top = make("span", level(context.v[context.p]), { class: "top" });
  if (context.e !== null) top.append(make("small", percent(context.e), { title: "of the token’s other places in the corpus, the share at which the feature fires" }));
  const sought = plain(find("text").value.trim()), beside = context.t.map(() => 0);
  for (let k = 0; k < pairs.length; k += 2) beside[pairs[k]] = pairs[k + 1];
  if (sought && plain(context.t.map((token) => texts[token]).join("")).includes(sought)) item.classList.add("found");
  const value = beside[context.p];
  item.append(top, tokens(context, context.v, feature.most, "text"));
  item.append(make("span", value ? level(value) : "0", { class: "top" }), tokens(context, beside, other.most, "beside"));
  return item;
}
function histogram(feature) {
  const SVG = "http://www.w3.org/2000/svg", counts = feature.histogram, most = Math.max(...counts, 1);
  const figure = make("figure", undefined, { class: "histogram" }), svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${counts.length} 1`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `Activations where it fires, from 0 to ${level(feature.most)}: ${counts.join(", ")} tokens`);
  counts.forEach((count, at) => {
    const bar = document.createElementNS(SVG, "rect"), height = count && Math.max(0.02, count / most);
    for (const [name, value] of Object.entries({ x: at + 0.06, y: 1 - height, width: 0.88, height })) bar.setAttribute(name, value);
    svg.append(bar);
  });
  const caption = make("figcaption");
  const bins = `${feature.fires.toLocaleString("en")} tokens by activation; the highest bar: ${most.toLocaleString("en")}`;
  caption.append(make("span", "0"), make("span", bins), make("span", level(feature.most)));
  figure.append(svg, caption);
  return figure;
}

form.addEventListener("input", refresh);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(refresh));
refresh();
