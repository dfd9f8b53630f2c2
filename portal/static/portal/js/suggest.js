/* Suggestions while typing: a combobox with a list of its own, after the ARIA practices.
   The form works without this file; with it, the arrow keys choose, Enter takes and Escape closes. */
"use strict";
(() => {
  const WAIT_MS = 120;
  const SHORTEST = 2;
  const KEPT = 50;
  const boxes = new WeakSet();
  const answers = new Map();
  const status = document.createElement("div");
  status.className = "visually-hidden";
  status.setAttribute("role", "status");
  status.id = "suggest-status";
  document.body.append(status);

  function say(text) {
    if (!status.isConnected) {
      document.getElementById(status.id)?.remove();
      document.body.append(status);
    }
    status.textContent = text;
  }

  async function ask(address, text, signal) {
    const url = `${address}?${new URLSearchParams({ q: text })}`;
    if (answers.has(url)) return answers.get(url);
    const answer = await fetch(url, { signal, headers: { Accept: "application/json" } });
    if (!answer.ok) return [];
    const { results } = await answer.json();
    if (answers.size >= KEPT) answers.delete(answers.keys().next().value);
    answers.set(url, results);
    return results;
  }

  function element(name, className, text) {
    const node = document.createElement(name);
    node.className = className;
    node.textContent = text;
    return node;
  }

  function option(item, id) {
    const node = document.createElement("li");
    node.id = id;
    node.setAttribute("role", "option");
    node.setAttribute("aria-selected", "false");
    const isConcept = item.kind === "concept";
    const what = element("span", "what", isConcept ? item.term : item.name);
    if (item.matched) what.append(" ", element("small", "", `(${item.matched})`));
    const number = isConcept ? item.count.toLocaleString("en") : "";
    const kind = isConcept
      ? `${item.facet_title}, ${number} dataset${item.count === 1 ? "" : "s"}`
      : ["Dataset", item.year].filter(Boolean).join(" ");
    node.append(what, " ", element("span", "kind", kind));
    return node;
  }

  function enhance(input) {
    if (boxes.has(input)) return;
    boxes.add(input);
    let items = [];
    let active = -1;
    let timer = 0;
    let request = null;

    // A page that comes back from htmx's history holds a copy of the list without its listeners.
    input.parentNode.querySelectorAll(".suggest-list").forEach((old) => old.remove());
    const list = element("ul", "suggest-list", "");
    list.id = `${input.id}-suggestions`;
    list.hidden = true;
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-label", "Suggestions");
    input.after(list);
    input.setAttribute("role", "combobox");
    input.setAttribute("aria-autocomplete", "list");
    input.setAttribute("aria-haspopup", "listbox");
    input.setAttribute("aria-controls", list.id);
    input.setAttribute("aria-expanded", "false");

    function stop() {
      clearTimeout(timer);
      request?.abort();
      request = null;
    }

    function close() {
      stop();
      list.hidden = true;
      active = -1;
      input.setAttribute("aria-expanded", "false");
      input.removeAttribute("aria-activedescendant");
      say("");
    }

    function mark(next) {
      list.children[active]?.setAttribute("aria-selected", "false");
      active = next;
      const node = list.children[active];
      if (node) {
        node.setAttribute("aria-selected", "true");
        node.scrollIntoView({ block: "nearest" });
        input.setAttribute("aria-activedescendant", node.id);
      } else {
        input.removeAttribute("aria-activedescendant");
      }
    }

    function show(found) {
      items = found;
      mark(-1);
      list.replaceChildren(...items.map((item, place) => option(item, `${list.id}-${place}`)));
      list.hidden = items.length === 0;
      input.setAttribute("aria-expanded", String(items.length > 0));
      const number = items.length === 1 ? "1 suggestion" : `${items.length} suggestions`;
      say(items.length ? `${number}, use the arrow keys` : "No suggestions");
    }

    async function update() {
      stop();
      const text = input.value;
      if (text.trim().length < SHORTEST) {
        close();
        return;
      }
      const mine = new AbortController();
      request = mine;
      try {
        const found = await ask(input.dataset.suggest, text, mine.signal);
        if (request === mine && document.activeElement === input) show(found);
      } catch (error) {
        if (error.name !== "AbortError") close();
      }
    }

    function take(item) {
      close();
      if (item.kind === "dataset") {
        window.location.assign(item.url);
        return;
      }
      input.value = item.text;
      input.focus();
      input.setSelectionRange(item.text.length, item.text.length);
      say(item.text);
    }

    function move(step) {
      // One place beyond either end is the text itself: nothing is marked there.
      const places = items.length + 1;
      mark(((active + 1 + step + places) % places) - 1);
    }

    input.addEventListener("input", (event) => {
      stop();
      if (event.isComposing) return;
      timer = setTimeout(update, WAIT_MS);
    });
    input.addEventListener("compositionend", () => { timer = setTimeout(update, WAIT_MS); });
    input.addEventListener("blur", close);
    input.form?.addEventListener("submit", close);
    input.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      const open = !list.hidden;
      if (event.key === "ArrowDown" || event.key === "ArrowUp") {
        event.preventDefault();
        if (open && !event.altKey) move(event.key === "ArrowDown" ? 1 : -1);
        else if (open) close();
        else update();
      } else if (event.key === "Enter" && open && active >= 0) {
        event.preventDefault();
        take(items[active]);
      } else if (event.key === "Escape" && open) {
        event.preventDefault();
        close();
      } else if (event.key === "Tab") {
        close();
      }
    });
    // The box keeps the focus while the mouse chooses.
    list.addEventListener("mousedown", (event) => event.preventDefault());
    list.addEventListener("click", (event) => {
      const place = [...list.children].indexOf(event.target.closest("li"));
      if (place >= 0) take(items[place]);
    });
  }

  function enhanceAll(root) {
    root.querySelectorAll("input[data-suggest]").forEach(enhance);
  }

  enhanceAll(document);
  document.addEventListener("htmx:load", (event) => enhanceAll(event.detail.elt));
  document.addEventListener("focusin", (event) => {
    if (event.target.matches?.("input[data-suggest]")) enhance(event.target);
  });
})();
