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
  if (rows.length < 8) continue;
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
for (const button of document.querySelectorAll("[data-copy]")) {
  const source = document.getElementById(button.dataset.copy);
  const status = button.parentElement.querySelector("[role=status]");
  button.hidden = !source;
  button.addEventListener("click", async () => {
    const text = source.textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      button.focus();
    }
    if (status) status.textContent = "copied: " + button.textContent.replace(/^Copy (for )?/, "");
  });
}
for (const browser of document.querySelectorAll(".browser")) {
  const AT_ONCE = 5;
  const items = Array.from(browser.querySelectorAll("li.text"));
  const words = new Map(items.map((item) => [item, item.textContent.toLowerCase()]));
  const form = browser.querySelector("form");
  const count = browser.querySelector(".count");
  const more = browser.querySelector(".more");
  const list = browser.querySelector(".texts");
  let most = AT_ONCE;
  const fits = (item) => {
    for (const select of form.querySelectorAll("select")) {
      const has = item.dataset[select.name];
      if (select.value && has !== select.value && !(select.name === "outcome" && has.split(" ").includes(select.value))) return false;
    }
    return form.elements.words.value.toLowerCase().split(/\s+/).every((word) => words.get(item).includes(word));
  };
  const update = () => {
    const fitting = items.filter(fits);
    const shown = new Set(fitting.slice(0, most));
    for (const item of items) item.hidden = !shown.has(item);
    more.hidden = fitting.length <= most;
    count.textContent = shown.size + " of " + fitting.length + " shown" + (fitting.length < items.length ? ", of " + items.length + " on this page" : "");
  };
  const restart = () => { most = AT_ONCE; update(); };
  form.addEventListener("input", restart);
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => { most += 3 * AT_ONCE; update(); });
  browser.classList.add("scripted");
  list.removeAttribute("tabindex");
  form.hidden = false;
  update();
}
