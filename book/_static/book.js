// docutils marks the bibliography as a list whose entries have a role that no list may hold.
document.addEventListener("DOMContentLoaded", () => {
  document
    .querySelectorAll(".citation-list > .citation")
    .forEach((entry) => entry.setAttribute("role", "listitem"));
});
