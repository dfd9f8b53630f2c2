/* Files in parts that go on after a lost connection, a restarted server or a reload (tus 1.0). */
"use strict";
(() => {
const PART = 8 * 1024 * 1024, LONGEST_WAIT = 30000, JSON_TYPE = "application/json";
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const pathOf = (file) => file.webkitRelativePath || file.name;
const size = (bytes) => bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;

class Refused extends Error {
  constructor(status, problem) {
    super(problem.detail || problem.title || `The portal answered ${status}`);
    this.status = status;
    this.problems = problem.errors || [];
  }
}

async function sha256(part) {
  if (!window.crypto.subtle) return "";  // only over https, and on this machine
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", await part.arrayBuffer()));
  return `sha256 ${btoa(String.fromCharCode(...digest))}`;
}

class Sender {
  constructor(form) {
    this.form = form;
    this.token = form.querySelector("[name=csrfmiddlewaretoken]").value;
    this.box = form.querySelector("[data-upload-progress]");
    this.bar = this.box.querySelector("progress");
    this.figures = this.box.querySelector("[data-upload-figures]");
    this.said = form.querySelector("[data-upload-said]");
  }

  say(text, problems = []) {
    const box = document.createElement("div");
    box.className = "notice warn";
    for (const line of new Set([text, ...problems.map((one) => one.message)])) {
      const row = document.createElement("p");
      row.textContent = line;
      box.append(row);
    }
    this.said.replaceChildren(...(text ? [box] : []));
  }

  async ask(address, method, body, headers = {}) {
    const answer = await fetch(address, { method, body, headers: { "X-CSRFToken": this.token, ...headers } });
    if (answer.ok) return answer;
    const type = answer.headers.get("Content-Type") || "";
    throw new Refused(answer.status, type.includes("json") ? await answer.json() : {});
  }

  chosen() {
    return [...this.form.querySelectorAll("input[type=file]")].flatMap((input) => [...input.files]);
  }

  async run() {
    const files = this.chosen();
    const address = this.form.dataset.upload;
    let upload;
    if (this.form.elements.namedItem("name")) {
      const named = { name: this.form.elements.namedItem("name").value.trim(), files: files.map((file) => ({ path: pathOf(file), bytes: file.size })) };
      upload = await (await this.ask(address, "POST", JSON.stringify(named), { "Content-Type": JSON_TYPE })).json();
      history.replaceState(null, "", upload.page);  // a reload goes on from here
    } else {
      upload = await (await this.ask(address, "GET")).json();
    }
    const bySize = new Map(files.map((file) => [`${pathOf(file)} ${file.size}`, file]));
    const open = upload.files.filter((row) => row.offset < row.bytes);
    const lacking = open.filter((row) => !bySize.has(`${row.path} ${row.bytes}`));
    this.done = upload.files.reduce((sum, row) => sum + row.offset, 0);
    this.total = upload.files.reduce((sum, row) => sum + row.bytes, 0);
    this.box.hidden = false;
    this.show();
    for (const row of open) {
      const file = bySize.get(`${row.path} ${row.bytes}`);
      if (file) await this.send(file, row);
    }
    if (lacking.length) {
      this.say(`${lacking.length} of the files were not chosen, or have another size than before:`, lacking.slice(0, 5).map((row) => ({ message: `${row.path}, ${size(row.bytes)}` })));
      return;
    }
    location.assign(upload.page);
  }

  async send(file, row) {
    let offset = row.offset, pause = 1000;
    while (offset < row.bytes) {
      try {
        const part = file.slice(offset, offset + PART);
        const headers = { "Content-Type": "application/offset+octet-stream", "Upload-Offset": String(offset), "Tus-Resumable": "1.0.0" };
        const checksum = await sha256(part);
        if (checksum) headers["Upload-Checksum"] = checksum;
        const answer = await this.ask(row.url, "PATCH", part, headers);
        const here = Number(answer.headers.get("Upload-Offset"));
        this.done += here - offset;
        offset = here;
        pause = 1000;
        this.say("");
      } catch (error) {
        if (error instanceof Refused && error.status < 500 && ![409, 422, 429].includes(error.status)) throw error;
        this.say(`${error.message}. Trying again …`);
        await wait(pause);
        pause = Math.min(2 * pause, LONGEST_WAIT);
        const here = await this.where(row);
        this.done += here - offset;
        offset = here;
      }
      this.show();
    }
  }

  async where(row) {
    for (let pause = 1000; ; pause = Math.min(2 * pause, LONGEST_WAIT)) {
      try {
        return Number((await this.ask(row.url, "HEAD")).headers.get("Upload-Offset"));
      } catch (error) {
        if (error instanceof Refused && error.status < 500) throw error;
        await wait(pause);
      }
    }
  }

  show() {
    this.bar.max = this.total || 1;
    this.bar.value = this.done;
    this.figures.textContent = `${size(this.done)} of ${size(this.total)}`;
  }
}

document.addEventListener("submit", async (event) => {
  const form = event.target.closest("form[data-upload]");
  if (!form) return;
  event.preventDefault();
  const sender = new Sender(form), button = form.querySelector("button");
  if (!sender.chosen().length) return sender.say("Choose files, a folder or an archive.");
  button.disabled = true;
  sender.say("");
  try {
    await sender.run();
  } catch (error) {
    sender.say(error.message, error.problems);
  }
  button.disabled = false;
});
})();
