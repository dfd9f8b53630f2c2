/* Comfort only: every page works without this file. */
"use strict";
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  if (!source) return;
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(source.textContent.trim());
    button.textContent = "Copied";
  } catch {
    const range = document.createRange();
    range.selectNodeContents(source);
    const selection = window.getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
    button.textContent = "Selected: press Ctrl+C";
  }
  setTimeout(() => { button.textContent = before; }, 2000);
});
function reveal(root) {
  for (const node of root.querySelectorAll("[data-needs-script]")) node.hidden = false;
  // The head is not swapped with the results.
  const feed = root.querySelector("a[data-feed]");
  const named = document.querySelector('link[rel="alternate"][type="application/atom+xml"]');
  if (feed && named) named.href = feed.href;
  // Narrow screens show each filter closed once all are opened; wide ones whose style sheet cannot
  // hold them open are helped.
  const isNarrow = window.matchMedia("(max-width: 58rem)").matches;
  for (const facet of isNarrow ? root.querySelectorAll("details.facet[data-collapses]") : []) facet.open = false;
  for (const all of root.querySelectorAll("details[data-narrow]")) {
    if (!isNarrow && !CSS.supports("selector(::details-content)")) all.open = true;
  }
}
reveal(document);
document.addEventListener("htmx:load", (event) => reveal(event.detail.elt));
