"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const heads = Array.from(table.tHead.rows[0].cells);
  const key = (row, index) => {
    const cell = row.cells[index];
    if (cell.dataset.value === undefined) return cell.textContent.trim().toLowerCase();
    return cell.dataset.value === "" ? null : Number(cell.dataset.value);
  };
  heads.forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const sign = down ? -1 : 1;
      const ordered = rows.slice().sort((a, b) => {
        const x = key(a, index), y = key(b, index);
        if (x === null || y === null) return (x === null) - (y === null);
        return x < y ? -sign : x > y ? sign : 0;
      });
      body.append(...ordered);
    });
  });
  const tools = document.createElement("div");
  tools.className = "tools";
  const search = document.createElement("input");
  search.type = "search";
  search.placeholder = "filter rows";
  search.setAttribute("aria-label", "filter rows");
  const count = document.createElement("span");
  const verdicts = (table.dataset.verdicts || "").split(" ").filter(Boolean);
  const select = document.createElement("select");
  select.setAttribute("aria-label", "verdict");
  for (const name of ["every verdict", ...verdicts]) select.append(new Option(name, name === "every verdict" ? "" : name));
  const update = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      const fits = words.every((word) => text.includes(word)) && (!select.value || row.dataset.verdict === select.value);
      row.hidden = !fits;
      shown += fits;
    }
    count.textContent = shown + " of " + rows.length + " rows";
  };
  search.addEventListener("input", update);
  select.addEventListener("change", update);
  tools.append(search);
  if (verdicts.length > 1) tools.append(select);
  tools.append(count);
  update();
  table.closest(".scroll").before(tools);
}
