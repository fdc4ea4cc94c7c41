for (const table of document.querySelectorAll(".circuitry .sortable:not(.ready)")) {
  table.classList.add("ready");
  const heads = [...table.tHead.querySelectorAll("tr:last-child th")];
  const value = (row, k) => {
    const text = row.cells[k].textContent.trim(), number = Number(text.replaceAll("−", "-").replace(/^[<+]\s*|,|\s*%$/g, ""));
    return text === "" ? null : Number.isNaN(number) ? text : number;
  };
  const sort = (head, k) => {
    const down = head.ariaSort !== "descending", body = table.tBodies[0];
    for (const other of heads) other.ariaSort = null;
    head.ariaSort = down ? "descending" : "ascending";
    const order = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
    const rows = [...body.rows].map((row) => [value(row, k), row]);
    rows.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null) : (down ? -1 : 1) * order(a, b));
    body.append(...rows.map(([, row]) => row));
  };
  heads.forEach((head, k) => {
    head.tabIndex = 0;
    head.title = "sort";
    head.addEventListener("click", () => sort(head, k));
    head.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(head, k); } });
  });
}
