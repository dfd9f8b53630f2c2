/* Keeps ticked datasets between pages. Without it the ticks are a plain form. */
"use strict";
(() => {
  const KEY = "imagingx.compare";
  const MOST = 6;
  let memory = [];

  function read() {
    try {
      const found = JSON.parse(window.localStorage.getItem(KEY) || "[]");
      memory = Array.isArray(found) ? found.filter((one) => one && one.slug && one.name) : [];
    } catch { /* no storage: the choice lives as long as the page */ }
    return memory;
  }
  function write(chosen) {
    memory = chosen;
    try {
      window.localStorage.setItem(KEY, JSON.stringify(chosen));
    } catch { /* as above */ }
  }
  const boxes = () => [...document.querySelectorAll("input[data-pick]")];

  function show(message) {
    const chosen = read();
    const bar = document.querySelector("[data-compare-bar]");
    for (const box of boxes()) box.checked = chosen.some((one) => one.slug === box.value);
    if (!bar) return;
    const status = bar.querySelector("[data-compare-count]");
    if (status.dataset.hint === undefined) status.dataset.hint = status.textContent;
    const text = message || (chosen.length ? `${chosen.length} chosen` : status.dataset.hint);
    if (status.textContent !== text) status.textContent = text;
    const list = bar.querySelector("[data-compare-list]");
    list.hidden = !chosen.length;
    list.replaceChildren(...chosen.map(chip));
    for (const old of bar.querySelectorAll("input[type=hidden]")) old.remove();
    const here = new Set(boxes().map((box) => box.value));
    for (const one of chosen.filter((other) => !here.has(other.slug))) {
      const field = document.createElement("input");
      field.type = "hidden";
      field.name = "slug";
      field.value = one.slug;
      bar.append(field);
    }
    bar.querySelector("[data-compare-go]").textContent =
      chosen.length > 1 ? `Compare ${chosen.length}` : "Compare";
    bar.querySelector("[data-compare-clear]").hidden = !chosen.length;
  }

  function chip(one) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "chip removable";
    button.dataset.compareDrop = one.slug;
    button.setAttribute("aria-label", `Remove ${one.name}`);
    button.textContent = `${one.name} ×`;
    item.append(button);
    return item;
  }

  document.addEventListener("change", (event) => {
    const box = event.target.closest("input[data-pick]");
    if (!box) return;
    const others = read().filter((one) => one.slug !== box.value);
    if (box.checked && others.length >= MOST) {
      show(`At most ${MOST} can be compared: remove one first.`);
      return;
    }
    write(box.checked ? [...others, { slug: box.value, name: box.dataset.pick }] : others);
    show();
  });
  document.addEventListener("click", (event) => {
    const drop = event.target.closest("[data-compare-drop]");
    const clear = event.target.closest("[data-compare-clear]");
    if (!drop && !clear) return;
    write(clear ? [] : read().filter((one) => one.slug !== drop.dataset.compareDrop));
    show();
    document.querySelector("[data-compare-go]").focus();
  });
  window.addEventListener("storage", (event) => { if (event.key === KEY) show(); });
  window.addEventListener("pageshow", () => show());

  // What the comparison page shows is the choice from now on, so that more can be ticked.
  const listed = document.querySelectorAll("[data-chosen] [data-slug]");
  if (listed.length) write([...listed].map((one) => ({ slug: one.dataset.slug, name: one.dataset.name })));
  show();
  document.addEventListener("htmx:load", () => show());
})();
