// Connects the parts of the page: header, view, keyboard.

import { photoPath, request } from "./api.js";
import { askConflict, connectDialogs } from "./dialogs.js";
import { byId, html, notify } from "./dom.js";
import { Gallery } from "./gallery.js";
import { ObjectList } from "./list.js";
import * as ranking from "./ranking.js";
import { AnnotationStore } from "./store.js";
import { Tools } from "./tools.js";
import { Viewer } from "./viewer.js";

const STATUS = {
  saved: "Saved",
  saving: "Saving…",
  offline: "Server away – changes are kept here and sent again",
  failed: "Not saved",
};
const selection = { selected: null };
let photo = null;
let mode = "objects";

const session = await request("/api/session");
const store = new AnnotationStore({ workspace: session.folder, resolve: askConflict, onchange: draw, onstatus });
const viewer = new Viewer({
  onselect: select,
  onhover: showTooltip,
  onpoint: (point, event) => tools.point(point, event),
});
const tools = new Tools({ store, viewer, selection, onchange: draw });
const list = new ObjectList({
  onselect: select,
  ondrop: (id, next) => edit(ranking.moveBefore(store.objects, id, next), id),
  onaside: (id) => act("aside", id),
  onaction: act,
});
const gallery = new Gallery({ onopen: open, rank: rankPhoto });

// ---- photo ----

async function open(next) {
  try {
    await store.open(next.id, annotator());
  } catch (error) {
    notify(error.message, "error");
    return;
  }
  photo = next;
  selection.selected = null;
  location.hash = next.id;
  byId("canvas").removeAttribute("hidden");
  byId("welcome").hidden = true;
  byId("tools").hidden = false;
  viewer.setPhoto(photo);
  gallery.select(photo);
  tools.choose("select");
}

/** Run the chosen model on a photo. The open photo gets the proposals as a change that can be undone. */
async function rankPhoto(target, signal) {
  const query = { model: byId("model").value, annotator: annotator() };
  const answer = await request(photoPath(target.id, "rank", query), { method: "POST", signal });
  const document = answer.proposal ?? answer;
  Object.assign(target, { state: target.state === "edited" ? "edited" : "ranked", objects: document.objects.length });
  if (store.photo !== target.id) return;
  if (answer.proposal) store.change(document.objects);
  else if (!store.dirty) store.adoptProposal(document);
}

/** Read everything again, for another annotator or after an import. */
async function reload() {
  await gallery.load(annotator());
  const same = gallery.photos.find(({ id }) => id === photo?.id);
  if (same) await open(same);
}

function annotator() {
  return byId("annotator").value.trim() || "me";
}

// ---- objects ----

function visible() {
  const least = Number(byId("threshold").value);
  return store.objects.filter(({ score }) => score === null || score >= least);
}

function select(id) {
  selection.selected = id;
  if (tools.name === "outline" && !id) tools.choose("select");
  draw();
  document.querySelector(`[data-row="${id}"]`)?.scrollIntoView({ block: "nearest" });
}

/** Change the objects and read out where one of them stands. */
function edit(objects, id) {
  store.change(objects);
  const found = objects.find((object) => object.id === id);
  const count = ranking.rankGroups(objects).length;
  if (found) byId("live").textContent = found.rank === null ? "not ranked" : `rank ${found.rank} of ${count}`;
}

/** Do what a button or key asks for an object. */
function act(action, id) {
  const { objects } = store;
  if (action === "accept") edit(ranking.accept(objects, id), id);
  if (action === "reject") edit(ranking.takeOut(objects, id, "rejected"), id);
  if (action === "aside") edit(ranking.takeOut(objects, id, "salient"), id);
  if (action === "tie") edit(ranking.toggleTie(objects, id), id);
  if (action === "delete") {
    selection.selected = null;
    edit(ranking.withoutObject(objects, id));
    notify("Object deleted. Ctrl+Z brings it back.");
  }
  if (action === "click" || action === "outline") tools.choose(action);
}

function draw() {
  const objects = visible();
  if (!store.objects.some(({ id }) => id === selection.selected)) selection.selected = null;
  if (photo) {
    viewer.draw(objects, selection.selected, mode);
    list.draw(photo, objects, selection.selected);
    tools.draw();
    drawView();
  }
  byId("undo").disabled = !store.canUndo;
  byId("redo").disabled = !store.canRedo;
  byId("rank").disabled = !photo;
  byId("empty").hidden = store.objects.length > 0;
  byId("accept-all").disabled = !objects.some(({ state }) => state === "proposed");
  const hidden = store.objects.length - objects.length;
  byId("hidden-note").hidden = !hidden;
  byId("hidden-note").firstElementChild.textContent = `${hidden} below the confidence`;
  for (const button of document.querySelectorAll("#tools [data-tool]")) {
    const name = tools.name === "click" ? "add" : tools.name;
    button.setAttribute("aria-pressed", String(button.dataset.tool === name));
  }
}

/** Draw what the server makes of the saved objects: saliency map, crop, downloads. */
async function drawView() {
  const query = { annotator: store.annotator, version: store.version };
  for (const [id, what] of [["json", "annotation"], ["picture", "picture"], ["saliency", "saliency"]]) {
    byId(`download-${id}`).href = photoPath(photo.id, what, query);
    byId(`download-${id}`).download = `${photo.name.replace(/\.\w+$/, "")}_${id}`;
  }
  byId("aspect").hidden = mode !== "crop";
  byId("crop-note").textContent = "";
  byId("crop").setAttribute("d", "");
  byId("saliency").toggleAttribute("hidden", mode !== "saliency");
  if (mode === "saliency") {
    const image = { href: photoPath(photo.id, "saliency", query), width: photo.width, height: photo.height };
    for (const [name, value] of Object.entries(image)) byId("saliency").setAttribute(name, value);
  }
  if (mode !== "crop") return;
  const path = photoPath(photo.id, "crop", { ...query, aspect: byId("aspect").value });
  const { box, kept, lost } = await request(path).catch((error) => ({ box: null, error }));
  if (!box || mode !== "crop") return;
  const [left, top, right, bottom] = box;
  const frame = `M0 0H${photo.width}V${photo.height}H0Z`;
  byId("crop").setAttribute("d", `${frame}M${left} ${top}H${right}V${bottom}H${left}Z`);
  const size = `${Math.round(right - left)} × ${Math.round(bottom - top)}`;
  byId("crop-note").textContent = `${size}, keeps ${kept.length} of ${kept.length + lost.length} objects`;
}

function showTooltip(id, x, y) {
  const object = tools.name === "select" && store.objects.find((one) => one.id === id);
  byId("tooltip").hidden = !object;
  if (!object) return;
  const { rank, score } = object;
  const parts = [rank === null ? "not ranked" : `Rank ${rank}`, object.class];
  if (score !== null) parts.push(`${Math.round(score * 100)}% confident`);
  byId("tooltip").textContent = parts.join(" · ");
  const left = Math.min(x + 14, byId("stage").clientWidth - byId("tooltip").offsetWidth - 4);
  byId("tooltip").style.transform = `translate(${left}px, ${y + 18}px)`;
}

function onstatus(status, detail) {
  const wasAway = byId("status").dataset.status === "offline";
  byId("status").dataset.status = status;
  byId("status").textContent = STATUS[status];
  byId("status").title = detail ?? "";
  if (detail) notify(detail, "error");
  if (status === "saved" && wasAway) store.saveDrafts();
  if (status !== "saved" || !photo || store.version === 0) return;
  Object.assign(photo, { state: store.objects.some(({ state }) => state !== "proposed") ? "edited" : "ranked" });
  photo.objects = store.objects.length;
  gallery.draw();
  drawView();
}

// ---- keyboard ----

function selectNext(offset) {
  const shown = [...document.querySelectorAll("#list [data-row]")].map((row) => row.dataset.row);
  if (!shown.length) return;
  const index = shown.indexOf(selection.selected);
  const next = index < 0 ? 0 : Math.min(Math.max(index + offset, 0), shown.length - 1);
  select(shown[next]);
  if (document.activeElement.closest("#list")) document.querySelector(`[data-row="${shown[next]}"] .title`).focus();
}

const KEYS = {
  a: () => addByClicks(),
  p: () => tools.choose("draw"),
  f: () => viewer.fit(),
  "+": () => viewer.zoomBy(1.25),
  "=": () => viewer.zoomBy(1.25),
  "-": () => viewer.zoomBy(0.8),
  "?": () => byId("help").showModal(),
  Escape: () => select(null),
  ArrowLeft: () => gallery.neighbor(-1) && open(gallery.neighbor(-1)),
  ArrowRight: () => gallery.neighbor(1) && open(gallery.neighbor(1)),
};
const OBJECT_KEYS = {
  c: "accept", x: "reject", n: "aside", t: "tie", e: "click", o: "outline", Delete: "delete", Backspace: "delete",
};

function onkey(event) {
  if (event.target.matches("input, select, textarea") || document.querySelector("dialog[open]")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey || event.metaKey) {
    if (key === "z" && event.shiftKey) store.redo();
    else if (key === "z") store.undo();
    else if (key === "y") store.redo();
    else return;
  } else if (event.altKey) return;
  else if (tools.key(event)) return event.preventDefault();
  else if (key === "ArrowUp" || key === "ArrowDown") moveOrSelect(event);
  else if (selection.selected && key >= "1" && key <= "9") {
    edit(ranking.setRank(store.objects, selection.selected, Number(key)), selection.selected);
  } else if (selection.selected && OBJECT_KEYS[key]) act(OBJECT_KEYS[key], selection.selected);
  else if (KEYS[key]) KEYS[key]();
  else return;
  event.preventDefault();
}

function moveOrSelect(event) {
  const direction = event.key === "ArrowUp" ? -1 : 1;
  const focused = document.activeElement.closest("[data-row]")?.dataset.row;
  if (focused && focused !== selection.selected) select(focused);
  if (!selection.selected || event.shiftKey) selectNext(direction);
  else edit(ranking.step(store.objects, selection.selected, direction), selection.selected);
}

function addByClicks() {
  select(null);
  tools.choose("click");
}

// ---- controls ----

function listen(id, type, listener) {
  byId(id).addEventListener(type, listener);
}

document.addEventListener("keydown", onkey);
listen("undo", "click", () => store.undo());
listen("redo", "click", () => store.redo());
listen("zoom-in", "click", () => viewer.zoomBy(1.25));
listen("zoom-out", "click", () => viewer.zoomBy(0.8));
listen("zoom-fit", "click", () => viewer.fit());
listen("aspect", "change", drawView);
listen("done", "click", () => tools.choose("select"));
listen("rank", "click", async () => {
  byId("rank").setAttribute("aria-busy", "true");
  await rankPhoto(photo).catch((error) => notify(error.message, "error"));
  byId("rank").removeAttribute("aria-busy");
  gallery.draw();
});
listen("threshold", "input", () => {
  byId("threshold-value").textContent = `${Math.round(byId("threshold").value * 100)}%`;
  draw();
});
listen("reject-hidden", "click", () => {
  const shown = new Set(visible().map(({ id }) => id));
  const hidden = store.objects.filter(({ id }) => !shown.has(id));
  store.change(hidden.reduce((objects, { id }) => ranking.takeOut(objects, id, "rejected"), store.objects));
});
listen("accept-all", "click", () => {
  const proposed = visible().filter(({ state }) => state === "proposed");
  store.change(proposed.reduce((all, { id }) => ranking.withObject(all, id, { state: "accepted" }), store.objects));
});
listen("annotator", "change", () => {
  localStorage.setItem("sor-ppa annotator", annotator());
  reload().catch((error) => notify(error.message, "error"));
});
listen("theme", "click", () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const { dataset } = document.documentElement;
  dataset.theme = (dataset.theme === "system" ? dark : dataset.theme === "dark") ? "light" : "dark";
  localStorage.setItem("sor-ppa theme", dataset.theme);
});
for (const button of document.querySelectorAll("#modes button")) {
  button.addEventListener("click", () => {
    mode = button.dataset.mode;
    for (const other of button.parentElement.children) other.setAttribute("aria-pressed", String(other === button));
    draw();
  });
}
for (const button of document.querySelectorAll("#tools [data-tool]")) {
  const { tool } = button.dataset;
  button.addEventListener("click", () => (tool === "add" ? addByClicks() : tools.choose(tool)));
}
for (const button of document.querySelectorAll("#tool-bar [data-sign]")) {
  button.addEventListener("click", () => {
    tools.positive = button.dataset.sign === "+";
    draw();
  });
}
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details[open]")) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "hidden") store.save();
  else store.refresh().catch(() => {});
});
window.addEventListener("focus", () => store.refresh().catch(() => {}));
window.addEventListener("pagehide", () => store.save());

// ---- start ----

byId("annotator").value = session.annotator ?? localStorage.getItem("sor-ppa annotator") ?? "me";
byId("folder").textContent = session.folder;
const models = (await request("/models")).filter((model) => model.installed && (model.task === "rank" || model.default));
byId("model").replaceChildren(
  ...models.map((model) => html("option", { value: model.name, selected: model.name === session.model }, model.name)),
);
connectDialogs(reload);
await gallery.load(annotator());
await store.saveDrafts();
const first = gallery.photos.find(({ id }) => id === decodeURIComponent(location.hash.slice(1))) ?? gallery.photos[0];
if (first) await open(first);
draw();
document.body.dataset.ready = "true";
