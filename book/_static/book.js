document.addEventListener("DOMContentLoaded", () => {
  // docutils marks the bibliography as a list whose entries have a role that no list may hold.
  document
    .querySelectorAll(".citation-list > .citation")
    .forEach((entry) => entry.setAttribute("role", "listitem"));
  // A table that scrolls must be reachable by the keyboard.
  document
    .querySelectorAll(".pst-scrollable-table-container")
    .forEach((table) => table.setAttribute("tabindex", "0"));
});
