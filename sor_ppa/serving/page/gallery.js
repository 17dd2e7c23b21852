// The photos of the folder: thumbnails, adding photos, ranking all of them.

import { photoPath, request } from "./api.js";
import { byId, html, icon, notify } from "./dom.js";

const STATES = { new: "not ranked", ranked: "ranked by a model", edited: "corrected", damaged: "document is damaged" };
const MARKS = { edited: "check", damaged: "cross" };

export class Gallery {
  photos = [];
  #abort = null;

  /**
   * @param {object} options
   * @param {(photo: object) => void} options.onopen a photo was chosen
   * @param {(photo: object) => Promise<void>} options.rank runs the chosen model on a photo
   */
  constructor({ onopen, rank }) {
    Object.assign(this, { onopen, rank, current: null });
    byId("files").addEventListener("change", (event) => this.#chosen(event.target));
    byId("folder-files").addEventListener("change", (event) => this.#chosen(event.target));
    byId("add-photos").addEventListener("click", () => byId("files").click());
    byId("choose").addEventListener("click", () => byId("files").click());
    byId("add-folder").addEventListener("click", () => byId("folder-files").click());
    byId("rank-all").addEventListener("click", () => this.#rankAll(this.photos.filter(({ state }) => state === "new")));
    byId("job-cancel").addEventListener("click", () => this.#abort?.abort());
    document.addEventListener("paste", (event) => this.add([...event.clipboardData.files]));
    document.addEventListener("dragover", (event) => this.#over(event, true));
    document.addEventListener("dragleave", (event) => this.#over(event, event.relatedTarget !== null));
    document.addEventListener("drop", (event) => {
      this.#over(event, false);
      filesOf(event.dataTransfer).then((files) => this.add(files));
    });
  }

  async load(annotator) {
    this.photos = await request(`/api/photos?${new URLSearchParams({ annotator })}`);
    this.draw();
  }

  draw() {
    byId("gallery").replaceChildren(...this.photos.map((photo) => this.#entry(photo)));
    this.#count();
  }

  /** Show the new state of one photo. */
  update(photo) {
    byId("gallery").children[this.photos.indexOf(photo)]?.replaceWith(this.#entry(photo));
    this.#count();
  }

  #count() {
    const done = this.photos.filter(({ state }) => state === "edited").length;
    const waiting = this.photos.filter(({ state }) => state === "new").length;
    byId("counts").hidden = !this.photos.length;
    byId("counts-text").textContent = `${done} of ${this.photos.length} corrected`;
    byId("counts-progress").value = done / (this.photos.length || 1);
    byId("rank-all").hidden = !waiting;
    byId("rank-all").textContent = `Rank ${waiting} new`;
  }

  /** Mark the open photo. */
  select(photo) {
    this.current = photo.id;
    this.draw();
    byId("gallery").querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /** Return the photo so many places after the open one. */
  neighbor(offset) {
    return this.photos[this.photos.findIndex(({ id }) => id === this.current) + offset];
  }

  /** Upload image files, then rank them. */
  async add(files) {
    const images = files.filter(({ type, name }) => type.startsWith("image/") || /\.(jpe?g|png|webp|bmp|tiff?)$/i.test(name));
    if (!images.length) {
      if (files.length) notify("Expected images, found none.", "error");
      return;
    }
    const added = [];
    const finished = await this.#run("Adding", images, async (file, signal) => {
      const path = `/api/photos?name=${encodeURIComponent(file.name)}`;
      const sent = await request(path, { method: "POST", body: file, signal });
      const photo = this.photos.find(({ id }) => id === sent.id) ?? sent; // the same photo again
      if (photo === sent) {
        this.photos.push(photo);
        byId("gallery").append(this.#entry(photo));
        this.#count();
      }
      added.push(photo);
      if (added.length === 1) await this.onopen(photo);
    });
    if (finished) await this.#rankAll(added.filter(({ state }) => state === "new"));
  }

  #rankAll(photos) {
    return this.#run("Ranking", photos, this.rank);
  }

  /** Work on items one after another, with progress; go on after failures. Return false if it was canceled. */
  async #run(verb, items, work) {
    if (!items.length) return true;
    if (this.#abort) {
      notify("Wait until the present work is done, or cancel it.", "error");
      return false;
    }
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    const failures = [];
    byId("job").hidden = false;
    for (const [index, item] of items.entries()) {
      byId("job-text").textContent = `${verb} ${index + 1} of ${items.length}`;
      byId("job-progress").value = index / items.length;
      await work(item, signal).catch((error) => failures.push(`${item.name}: ${error.message}`));
      if (signal.aborted) break;
    }
    byId("job").hidden = true;
    this.#abort = null;
    if (signal.aborted) notify("Canceled. What was done is kept.");
    else if (failures.length) notify(failures.slice(0, 3).join(" "), "error");
    return !signal.aborted;
  }

  #entry(photo) {
    const { id, name, state, objects } = photo;
    const mark = html("span", { class: `mark ${state}` }, MARKS[state] ? icon(MARKS[state]) : null);
    const image = html("img", { src: photoPath(id, "thumbnail"), alt: "", loading: "lazy", draggable: "false" });
    const properties = {
      type: "button",
      "aria-label": `${name}, ${STATES[state]}, ${objects} objects`,
      "aria-current": id === this.current && "true",
      title: name,
      onclick: () => this.onopen(photo),
    };
    return html("li", {}, html("button", properties, image, mark, html("span", { class: "name" }, name)));
  }

  #chosen(input) {
    this.add([...input.files]);
    input.value = "";
  }

  #over(event, inside) {
    event.preventDefault();
    byId("drop").hidden = !inside || !event.dataTransfer.types.includes("Files");
  }
}

/** Return the files of a drop, also those in folders. */
async function filesOf(transfer) {
  const [files, items] = [[...transfer.files], [...transfer.items]]; // both are empty after the event
  const entries = items.map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return files;
  return (await Promise.all(entries.map(filesOfEntry))).flat();
}

async function filesOfEntry(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!part.length) return found;
    found.push(...(await Promise.all(part.map(filesOfEntry))).flat());
  }
}
