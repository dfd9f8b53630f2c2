/* Scrolls through the slices of a case by wheel, keys and slider, and fetches the next ones ahead.
   The page works without this file: links and forms hold the whole view in their address. */
"use strict";
(() => {
  const AHEAD = 3;
  const image = document.getElementById("slice");
  const slider = document.getElementById("place");
  if (!image || !slider) return;
  const viewer = document.querySelector("[data-viewer]");
  const frame = viewer.querySelector("[data-frame]");
  const number = viewer.querySelector("[data-number]");
  const plane = image.dataset.plane;
  const last = Number(image.dataset.last);
  const words = image.alt;
  let place = Number(image.dataset.place);
  let direction = 1;
  let loading = false;
  let travelled = 0;
  let timer = 0;

  for (const button of viewer.querySelectorAll("[data-no-script]")) button.hidden = true;

  function address(of) {
    const url = new URL(image.src);
    url.searchParams.set("index", String(of));
    return url.href;
  }

  function fetchAhead() {
    for (let step = 1; step <= AHEAD; step += 1) {
      const next = place + step * direction;
      if (next >= 0 && next <= last) new Image().src = address(next);
    }
  }

  // One picture is asked for at a time; what was passed meanwhile is never fetched.
  function load() {
    const wanted = address(place);
    if (loading || image.src === wanted) return;
    loading = true;
    const done = () => {
      loading = false;
      if (image.src === address(place)) fetchAhead();
      else load();
    };
    image.addEventListener("load", done, { once: true });
    image.addEventListener("error", done, { once: true });
    image.src = wanted;
  }

  // Every link and form of the page goes on from the slice that is shown.
  function keep() {
    for (const link of viewer.querySelectorAll("a[data-look]")) {
      const url = new URL(link.href);
      url.searchParams.set(plane, String(place));
      link.href = url.href;
    }
    for (const field of viewer.querySelectorAll("[data-place-of]")) field.value = String(place);
    const large = viewer.querySelector("a[data-picture]");
    const url = new URL(large.href);
    url.searchParams.set("index", String(place));
    large.href = url.href;
    const here = new URL(window.location.href);
    here.searchParams.set(plane, String(place));
    window.history.replaceState(window.history.state, "", here);
  }

  function go(to) {
    const next = Math.min(Math.max(to, 0), last);
    if (next === place) return;
    direction = next > place ? 1 : -1;
    place = next;
    slider.value = String(place);
    number.textContent = String(place);
    image.alt = words.replace(/slice \d+/, `slice ${place}`);
    load();
    clearTimeout(timer);
    timer = setTimeout(keep, 150);
  }

  slider.addEventListener("input", () => go(Number(slider.value)));
  for (const link of viewer.querySelectorAll("a[data-step]")) {
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      go(place + Number(link.dataset.step));
    });
  }
  frame.addEventListener("wheel", (event) => {
    if (event.ctrlKey) return;
    event.preventDefault();
    travelled += event.deltaMode ? event.deltaY * 40 : event.deltaY;
    const steps = Math.trunc(travelled / 40);
    travelled -= steps * 40;
    if (steps) go(place + steps);
  }, { passive: false });
  frame.addEventListener("keydown", (event) => {
    const moves = { ArrowUp: -1, ArrowLeft: -1, ArrowDown: 1, ArrowRight: 1, PageUp: -10, PageDown: 10 };
    const ends = { Home: 0, End: last };
    if (event.key in moves) go(place + moves[event.key]);
    else if (event.key in ends) go(ends[event.key]);
    else return;
    event.preventDefault();
  });
  fetchAhead();
})();
