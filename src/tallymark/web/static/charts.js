// Draws a chart above each table with data-chart="bar" or "line", from the numbers of that table and nothing else.
// The first column names the points, each other column is a series. Without this script the table is what there is.
"use strict";
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const number = (cell) => (cell.dataset.value === undefined ? null : Number(cell.dataset.value));
  const charts = [];

  function series(table) {
    const rows = [...table.tBodies[0].rows];
    const names = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
    const labels = rows.map((row) => row.cells[0].textContent.trim());
    const sets = names.slice(1).map((label, place) => ({
      label,
      data: rows.map((row) => number(row.cells[place + 1])),
      borderColor: colour(`--series-${place + 1}`),
      backgroundColor: colour(`--series-${place + 1}`),
      borderWidth: 2,
      pointRadius: rows.length > 40 ? 0 : 3,
    }));
    return { labels, datasets: sets };
  }

  function options(table) {
    const ticks = { color: colour("--soft"), maxRotation: 0, autoSkipPadding: 16 };
    const grid = { color: colour("--line") };
    const stacked = table.dataset.stacked !== undefined;
    return {
      responsive: true,
      maintainAspectRatio: false,
      animation: still ? false : { duration: 200 },
      interaction: { mode: "index", intersect: false },
      scales: {
        x: { type: "category", ticks, grid: { display: false }, stacked },
        y: { ticks, grid, stacked, beginAtZero: true, title: { display: true, text: table.dataset.unit || "", color: colour("--soft") } },
      },
      plugins: { legend: { labels: { color: colour("--text") }, display: table.tHead.rows[0].cells.length > 2 } },
    };
  }

  function draw(table) {
    const box = document.createElement("div");
    box.className = "canvas";
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", table.dataset.label || "Chart of the numbers in the table below");
    box.append(canvas);
    const details = table.closest("details");
    details.before(box);
    details.open = false;
    const make = () => new Chart(canvas, { type: table.dataset.chart, data: series(table), options: options(table) });
    charts.push({ make, chart: make() });
  }

  document.querySelectorAll("table[data-chart]").forEach(draw);
  dark.addEventListener("change", () => charts.forEach((one) => { one.chart.destroy(); one.chart = one.make(); }));
})();
