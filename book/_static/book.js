document.addEventListener("DOMContentLoaded", () => {
  // docutils marks the bibliography as a list whose entries have a role that no list may hold.
  document
    .querySelectorAll(".citation-list > .citation")
    .forEach((entry) => entry.setAttribute("role", "listitem"));
  // A table that scrolls must be reachable by the keyboard.
  document
    .querySelectorAll(".pst-scrollable-table-container")
    .forEach((table) => table.setAttribute("tabindex", "0"));

  // Figures that can move take the place of their still pictures, which stay for print. The script
  // that draws them is large, so it is loaded when the first of them comes near.
  const movable = [...document.querySelectorAll("script.interactive-figure")];
  if (movable.length === 0) return;
  const watch = new IntersectionObserver(
    (seen) => {
      if (!seen.some((entry) => entry.isIntersecting)) return;
      watch.disconnect();
      const script = document.createElement("script");
      script.src = document.documentElement.dataset.content_root + "plotly.min.js";
      script.onload = () => movable.forEach(draw);
      document.head.append(script);
    },
    { rootMargin: "1000px" },
  );
  movable.forEach((data) => watch.observe(document.getElementById(data.dataset.figure)));
});

function draw(data) {
  const figure = document.getElementById(data.dataset.figure);
  const still = figure.querySelector("img");
  const stage = document.createElement("div");
  stage.className = "interactive-stage";
  (still.closest("a") ?? still).after(stage);
  const { data: traces, layout } = JSON.parse(data.textContent);
  const options = { responsive: true, displaylogo: false, displayModeBar: false };
  Plotly.newPlot(stage, traces, layout, options).then(() => figure.classList.add("is-drawn"));
}
