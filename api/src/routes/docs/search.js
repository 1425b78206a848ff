// Filters the operations as one types. The page is whole without it.
const box = document.getElementById("search");
if (box) {
  box.hidden = false;
  const entries = document.querySelectorAll("[data-find]");
  const groups = document.querySelectorAll("nav section, main section.tag");
  const filter = () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const entry of entries) {
      entry.hidden = !words.every((word) => entry.dataset.find.includes(word));
    }
    for (const group of groups) {
      const found = group.querySelectorAll("[data-find]");
      group.hidden = words.length > 0 && ![...found].some((entry) => !entry.hidden);
    }
  };
  box.addEventListener("input", filter);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== box) {
      event.preventDefault();
      box.focus();
    } else if (event.key === "Escape") {
      box.value = "";
      filter();
    }
  });
}
