// Connects the parts of the page.

import { photoPath, request } from "./api.js";
import { askConflict, connectDialogs } from "./dialogs.js";
import { byId, html, notify, objectName } from "./dom.js";
import { Gallery } from "./gallery.js";
import { listenToKeys } from "./keyboard.js";
import { ObjectList } from "./list.js";
import * as ranking from "./ranking.js";
import { AnnotationStore } from "./store.js";
import { Tools } from "./tools.js";
import { Viewer } from "./viewer.js";

const STATUS = {
  saved: "Saved",
  saving: "Saving…",
  offline: "Server away – changes wait here",
  failed: "Not saved",
};
const selection = { selected: null };
let photo = null;
let mode = "objects";

const session = await request("/api/session");
const store = new AnnotationStore({ workspace: session.workspace, resolve: askConflict, onchange: draw, onstatus });
const viewer = new Viewer({ onselect: select, onhover: showTooltip, onpoint: (...click) => tools.point(...click) });
const tools = new Tools({ store, viewer, selection, onchange: () => show(tools.name === "select" ? mode : "objects") });
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
  history.replaceState(null, "", `#${next.id}`); // a reload opens the same photo
  byId("canvas").removeAttribute("hidden");
  byId("welcome").hidden = true;
  byId("tools").hidden = false;
  viewer.setPhoto(photo);
  gallery.select(photo);
  tools.choose("select");
}

/** Read everything again, for another annotator or after an import. */
async function reload() {
  await gallery.load(annotator());
  const same = gallery.photos.find(({ id }) => id === photo?.id);
  if (same) await open(same);
}

/** Run the chosen model on a photo. The open photo gets the proposals as a change that can be undone. */
async function rankPhoto(target, signal) {
  const query = { model: byId("model").value, annotator: annotator() };
  const answer = await request(photoPath(target.id, "rank", query), { method: "POST", signal });
  const document = answer.proposal ?? answer;
  Object.assign(target, { state: target.state === "edited" ? "edited" : "ranked", objects: document.objects.length });
  gallery.update(target);
  if (store.photo !== target.id) return;
  if (answer.proposal) store.change(document.objects);
  else if (!store.dirty) store.adoptProposal(document);
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
  list.reveal(id);
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
  if (action === "click" || action === "outline") tools.choose(action);
  if (action !== "delete") return;
  edit(ranking.withoutObject(objects, id), id);
  notify("Object deleted. Ctrl+Z brings it back.");
}

function addByClicks() {
  select(null);
  tools.choose("click");
}

// ---- view ----

function show(next) {
  mode = next;
  draw();
}

function draw() {
  const objects = visible();
  if (!objects.some(({ id }) => id === selection.selected)) selection.selected = null;
  if (photo) {
    viewer.draw(objects, selection.selected, mode);
    list.draw(photo, objects, selection.selected);
    tools.draw();
    drawView();
  }
  const hidden = store.objects.length - objects.length;
  byId("hidden-note").hidden = !hidden;
  byId("hidden-note").firstElementChild.textContent = `${hidden} below the confidence`;
  byId("empty").hidden = store.objects.length > 0;
  byId("undo").disabled = !store.canUndo;
  byId("redo").disabled = !store.canRedo;
  byId("rank").disabled = !photo;
  byId("accept-all").disabled = !objects.some(({ state }) => state === "proposed");
  showPressed("#modes button", ({ dataset }) => dataset.mode === mode);
  showPressed("#tools button", ({ dataset }) => dataset.tool === tools.name);
  showPressed("#tool-bar [data-sign]", ({ dataset }) => (dataset.sign === "+") === tools.positive);
}

function showPressed(buttons, isPressed) {
  for (const button of document.querySelectorAll(buttons)) button.setAttribute("aria-pressed", isPressed(button));
}

/** Show what the server makes of the saved objects: saliency map, crop, downloads. */
async function drawView() {
  const query = { annotator: store.annotator, version: store.version };
  for (const [what, ending] of [["annotation", ".json"], ["picture", "_ranked.jpg"], ["saliency", "_saliency.png"]]) {
    byId(`download-${what}`).href = photoPath(photo.id, what, query);
    byId(`download-${what}`).download = photo.name.replace(/\.\w+$/, "") + ending;
  }
  byId("aspect").hidden = mode !== "crop";
  byId("saliency").toggleAttribute("hidden", mode !== "saliency");
  if (mode === "saliency") viewer.setImage("saliency", photoPath(photo.id, "saliency", query));
  let crop = null;
  if (mode === "crop") {
    const path = photoPath(photo.id, "crop", { ...query, aspect: byId("aspect").value });
    crop = await request(path).catch((error) => notify(error.message, "error"));
  }
  viewer.drawCrop(mode === "crop" ? crop : null);
}

function showTooltip(id, x, y) {
  const object = tools.name === "select" && store.objects.find((one) => one.id === id);
  byId("tooltip").hidden = !object;
  if (!object) return;
  const { rank, score } = object;
  const parts = [rank === null ? "not ranked" : `Rank ${rank}`, objectName(object)];
  if (score !== null) parts.push(`${Math.round(score * 100)}% confident`);
  byId("tooltip").textContent = parts.join(" · ");
  const left = Math.min(x + 14, byId("stage").clientWidth - byId("tooltip").offsetWidth - 4);
  byId("tooltip").style.transform = `translate(${left}px, ${y + 18}px)`;
}

function onstatus(status, detail) {
  const wasAway = byId("status").dataset.status === "offline";
  byId("status").dataset.status = status;
  byId("status").textContent = STATUS[status];
  if (detail) notify(detail, "error");
  if (status === "saved" && wasAway) store.saveDrafts();
  if (status !== "saved" || photo?.id !== store.photo || store.version === 0) return;
  if (store.document.edited) photo.state = "edited";
  photo.objects = store.objects.length;
  gallery.update(photo);
  drawView();
}

// ---- controls ----

function listen(buttons, type, listener) {
  for (const button of document.querySelectorAll(buttons)) button.addEventListener(type, () => listener(button));
}

listen("#undo", "click", () => store.undo());
listen("#redo", "click", () => store.redo());
listen("#zoom-in", "click", () => viewer.zoomBy(1.25));
listen("#zoom-out", "click", () => viewer.zoomBy(0.8));
listen("#zoom-fit", "click", () => viewer.fit());
listen("#aspect", "change", drawView);
listen("#done", "click", () => tools.choose("select"));
listen("#modes button", "click", ({ dataset }) => show(dataset.mode));
listen("#tools button", "click", ({ dataset }) => (dataset.tool === "click" ? addByClicks() : tools.choose(dataset.tool)));
listen("#tool-bar [data-sign]", "click", ({ dataset }) => {
  tools.positive = dataset.sign === "+";
  draw();
});
listen("#rank", "click", async (button) => {
  button.setAttribute("aria-busy", "true");
  await rankPhoto(photo).catch((error) => notify(error.message, "error"));
  button.removeAttribute("aria-busy");
});
listen("#threshold", "input", (slider) => {
  byId("threshold-value").textContent = `${Math.round(slider.value * 100)}%`;
  draw();
});
listen("#reject-hidden", "click", () => {
  const shown = new Set(visible());
  const hidden = store.objects.filter((object) => !shown.has(object));
  store.change(hidden.reduce((objects, { id }) => ranking.takeOut(objects, id, "rejected"), store.objects));
});
listen("#accept-all", "click", () => {
  const proposed = visible().filter(({ state }) => state === "proposed");
  store.change(proposed.reduce((all, { id }) => ranking.withObject(all, id, { state: "accepted" }), store.objects));
});
listen("#annotator", "change", () => {
  localStorage.setItem("sor-ppa annotator", annotator());
  reload().catch((error) => notify(error.message, "error"));
});
listen("#theme", "click", () => {
  const { dataset } = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  dataset.theme = (dataset.theme === "system" ? system : dataset.theme) === "dark" ? "light" : "dark";
  localStorage.setItem("sor-ppa theme", dataset.theme);
});
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details[open]")) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "hidden") store.save();
  else store.refresh().catch(() => {}); // the next save says if the server is away
});
window.addEventListener("pagehide", () => store.save());

const openNeighbor = (offset) => gallery.neighbor(offset) && open(gallery.neighbor(offset));
const keys = {
  a: addByClicks,
  p: () => tools.choose("draw"),
  f: () => viewer.fit(),
  "+": () => viewer.zoomBy(1.25),
  "=": () => viewer.zoomBy(1.25),
  "-": () => viewer.zoomBy(0.8),
  "?": () => byId("help").showModal(),
  Escape: () => select(null),
  ArrowLeft: () => openNeighbor(-1),
  ArrowRight: () => openNeighbor(1),
};
listenToKeys({ store, tools, selected: () => selection.selected, select, edit, act, keys });

// ---- start ----

byId("annotator").value = session.annotator ?? localStorage.getItem("sor-ppa annotator") ?? "me";
byId("folder").textContent = session.folder;
const models = (await request("/models")).filter((model) => model.installed && (model.task === "rank" || model.default));
byId("model").replaceChildren(...models.map(({ name }) => html("option", { selected: name === session.model }, name)));
connectDialogs(annotator, () => photo, reload);
await gallery.load(annotator());
await store.saveDrafts();
const asked = location.hash.slice(1);
const first = gallery.photos.find(({ id }) => id === asked) ?? gallery.photos[0];
if (first) await open(first);
draw();
document.body.dataset.ready = "true";
