// A chosen cell's examples: the effect on each, those that disagree most with the mean first. The numbers are in the page's data.
{
  const stored = document.getElementById("examples-data");
  const data = stored ? JSON.parse(stored.textContent) : {};
  const floats = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  const tables = {};
  for (const [number, table] of Object.entries(data.tables ?? {})) tables[number] = { ...table, effects: floats(table.effects) };

  const NAMES = ["example", "effect", "deviation", "z"];

  function element(name, className = "", ...children) {
    const made = document.createElement(name);
    if (className) made.className = className;
    made.append(...children);
    return made;
  }
  function signed(value) { // as pages write effects: colours.py
    if (!Number.isFinite(value)) return "";
    const size = Math.abs(value), sign = value < 0 ? "−" : "+";
    if (size < 0.0005) return size ? sign + size.toExponential(0).replace(/e-(\d)$/, "e−0$1").replace("e-", "e−") : "0";
    return sign + size.toFixed(size >= 100 ? 0 : size >= 0.01 ? 2 : 3);
  }
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  function median(values) {
    const sorted = [...values].sort((a, b) => a - b), half = sorted.length >> 1;
    return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  }
  function robust(values) { // as results/examples.py
    const middle = median(values), away = values.map((value) => Math.abs(value - middle));
    const spread = 1.4826 * median(away) || 1.2533 * mean(away);
    return values.map((value) => (spread ? (value - middle) / spread : 0));
  }

  function token(text, other, name) {
    const shown = element("span", other === undefined ? "tok" : "tok differs");
    if (name) shown.append(element("small", "", name));
    shown.append(element("b", "", text.replaceAll("\n", "↵")));
    if (other !== undefined) shown.append(element("i", "", other.replaceAll("\n", "↵")));
    return shown;
  }
  function prompt(prompts, example) {
    prompts.texts ??= new Map(prompts.tokens);
    const text = (id) => prompts.texts.get(id), changes = new Map(prompts.changes[example]), names = new Map();
    for (const [name, at] of Object.entries(prompts.where)) names.set(at[example], [names.get(at[example]), name].filter(Boolean).join(", "));
    const all = element("span", "prompt");
    let plain = [];
    const flush = () => {
      const cut = plain.length > data.long;
      all.append(...(cut ? plain.slice(0, data.kept) : plain));
      if (cut) all.append(element("span", "gap", `… ${plain.length - 2 * data.kept} tokens …`), ...plain.slice(-data.kept));
      plain = [];
    };
    prompts.clean[example].forEach((id, place) => {
      const shown = token(text(id), changes.has(place) ? text(changes.get(place)) : undefined, names.get(place));
      if (!changes.has(place) && !names.has(place)) return plain.push(shown);
      flush();
      all.append(shown);
    });
    flush();
    all.append(element("span", "gap", "answer"), token(text(prompts.answer[example])));
    return all;
  }

  function bars(rows) {
    const most = Math.max(...rows.map((row) => Math.abs(row.deviation))) || 1, drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    drawing.setAttribute("viewBox", `0 0 ${rows.length} 2`);
    drawing.setAttribute("preserveAspectRatio", "none");
    drawing.setAttribute("aria-hidden", "true");
    const path = (chosen, className) => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", "path");
      made.setAttribute("d", rows.map((row, n) => (chosen(row) ? `M${n + 0.5} 1v${(-row.deviation / most).toFixed(3)}` : "")).join(""));
      made.setAttribute("class", className);
      drawing.append(made);
    };
    path((row) => Math.abs(row.z) < data.outlying, "usual");
    path((row) => Math.abs(row.z) >= data.outlying, "out");
    return element("div", "strip", drawing);
  }
  function rowsOf(table, cell) {
    const count = table.numbers.length, rows = [];
    table.numbers.forEach((example, place) => {
      const effect = table.effects[cell * count + place];
      if (Number.isFinite(effect)) rows.push({ example, effect });
    });
    const effects = rows.map((row) => row.effect), middle = mean(effects), z = robust(effects);
    rows.forEach((row, n) => { row.deviation = row.effect - middle; row.z = z[n]; });
    return rows;
  }
  function list(rows, prompts) {
    const body = element("tbody");
    for (const row of rows) {
      const line = element("tr", Math.abs(row.z) >= data.outlying ? "out" : "", ...NAMES.map((name) => {
        const entry = element("td", "number", name === "example" ? String(row.example) : signed(row[name]));
        entry.dataset.name = name;
        return entry;
      }));
      line.append(element("td", "", prompts ? prompt(prompts, row.example) : ""));
      body.append(line);
    }
    return body;
  }
  function button(text, act) {
    const made = element("button", "copy", text);
    made.type = "button";
    made.addEventListener("click", act);
    return made;
  }

  function open(cell) {
    const [, number, index] = cell.id.match(/^cell-(\d+)-(\d+)$/) ?? [];
    const block = document.querySelector(`.by-example[data-table="${number}"]`);
    if (!block) return;
    const place = block.querySelector(".of-cell"), table = tables[number], lines = cell.dataset.tip.split("\n");
    const name = lines.slice(0, lines.findIndex((line) => line.startsWith("mean effect"))).map((line) => line.replace(": ", " ")).join(", ") || "the one cell";
    const close = button("Close", () => { place.hidden = true; cell.focus(); });
    place.replaceChildren(element("h4", "", name, " ", close));
    place.hidden = false;
    if (!table) return place.append(element("p", "muted", "This page has no room for the effects of each example of this table; its files have them."));
    const set = Array.isArray(table.sets) ? table.sets[index] : table.sets, prompts = data.sets[set];
    const rows = rowsOf(table, Number(index));
    if (!rows.length) return place.append(element("p", "muted", "This cell was not measured."));
    const sorted = [...rows].sort((a, b) => Math.abs(b.deviation) - Math.abs(a.deviation));
    const heads = NAMES.map((text) => element("th", "number", text));
    const shown = element("table", "plain strays", element("thead", "", element("tr", "", ...heads, element("th", "", "prompt: clean, below it the corrupted token"))), list(sorted.slice(0, data.worst), prompts));
    const more = button(`Show all ${rows.length}`, () => { shown.tBodies[0].replaceWith(list(sorted, prompts)); more.remove(); });
    place.append(element("p", "muted", `Deviation from the mean effect, ${signed(mean(rows.map((row) => row.effect)))} (${table.unit}), of each of ${rows.length} examples`), bars(rows), element("div", "scroll", shown));
    if (rows.length > data.worst) place.append(more);
    place.scrollIntoView({ block: "nearest", behavior: "instant" });
  }
  document.addEventListener("click", (event) => {
    const cell = event.target.closest(CELLS);
    if (cell) open(cell);
  });
  document.addEventListener("keydown", (event) => {
    if ((event.key !== "Enter" && event.key !== " ") || !event.target.matches(CELLS)) return;
    event.preventDefault();
    open(event.target);
  });
}
