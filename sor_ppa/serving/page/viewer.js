// The photo with masks, outlines and badges, as SVG in pixels of the photo; zoom and pan.

import { photoPath } from "./api.js";
import { rankColor } from "./colors.js";
import { at, byId, svg } from "./dom.js";
import { badgePlaces, pathData } from "./geometry.js";

const CLICK = 5; // pixels of the screen that a pointer may move in a click
const BADGE = 14; // radius in pixels of the screen

export class Viewer {
  #pointers = new Map();
  #moved = false;
  #distance = 0;
  #view = { scale: 1, x: 0, y: 0 };
  #photo = null;
  #fitted = true;

  /**
   * @param {object} options
   * @param {(id: string|null) => void} options.onselect an object or the background was clicked
   * @param {(id: string|null, x: number, y: number) => void} options.onhover with the place in the stage
   * @param {(point: number[], event: PointerEvent) => boolean} options.onpoint a click; true: it is handled
   */
  constructor({ onselect, onhover, onpoint }) {
    Object.assign(this, { onselect, onhover, onpoint });
    this.stage = byId("stage");
    this.stage.addEventListener("pointerdown", (event) => this.#down(event));
    this.stage.addEventListener("pointermove", (event) => this.#move(event));
    this.stage.addEventListener("pointerup", (event) => this.#up(event));
    this.stage.addEventListener("pointercancel", (event) => this.#pointers.delete(event.pointerId));
    this.stage.addEventListener("pointerleave", () => this.onhover(null));
    this.stage.addEventListener("contextmenu", (event) => event.preventDefault());
    this.stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    new ResizeObserver(() => (this.#fitted ? this.fit() : null)).observe(this.stage);
  }

  get zoom() {
    return this.#view.scale;
  }

  setPhoto(photo) {
    this.#photo = photo;
    for (const id of ["photo", "lit"]) this.setImage(id, photoPath(photo.id, "image"));
    byId("photo").setAttribute("aria-label", photo.name);
    this.fit();
  }

  /** Show an image in the place of the photo. */
  setImage(id, href) {
    const { width, height } = this.#photo;
    for (const [name, value] of Object.entries({ href, width, height })) byId(id).setAttribute(name, value);
  }

  /** Darken what a crop leaves out and say what it keeps; null: no crop. */
  drawCrop(crop) {
    const { width, height } = this.#photo;
    const [left, top, right, bottom] = crop?.box ?? [];
    const shade = `M0 0H${width}V${height}H0ZM${left} ${top}H${right}V${bottom}H${left}Z`;
    byId("crop").setAttribute("d", crop ? shade : "");
    const kept = crop && `keeps ${crop.kept.length} of ${crop.kept.length + crop.lost.length} objects`;
    byId("crop-note").textContent = crop ? `${right - left} × ${bottom - top}, ${kept}` : "";
  }

  /** Draw the objects; the selected one with a stronger outline. */
  draw(objects, selected, mode) {
    this.stage.dataset.mode = mode;
    const shown = mode === "objects" ? objects.filter(({ polygons }) => polygons.length) : [];
    const bySize = [...shown].sort((a, b) => area(b.box) - area(a.box)); // small objects stay clickable
    this.stage.classList.toggle("dim", shown.length > 0);
    const lit = bySize.filter(({ id, rank }) => rank !== null || id === selected);
    byId("clip").replaceChildren(...lit.map((o) => svg("path", { d: pathData(o.polygons), "clip-rule": "evenodd" })));
    byId("objects").replaceChildren(...bySize.map((object) => drawObject(object, object.id === selected)));
    const ranked = shown.filter(({ rank }) => rank !== null);
    const places = badgePlaces(ranked, BADGE / this.zoom);
    byId("badges").replaceChildren(...ranked.map((object, index) => drawBadge(object, places[index])));
  }

  fit() {
    if (!this.#photo) return;
    const { clientWidth: width, clientHeight: height } = this.stage;
    const free = width < 500 ? 12 : 32;
    const scale = Math.min((width - free) / this.#photo.width, (height - free) / this.#photo.height);
    this.#show({ scale, x: (width - scale * this.#photo.width) / 2, y: (height - scale * this.#photo.height) / 2 });
    this.#fitted = true;
  }

  /** Zoom by a factor around a place of the stage; without one around its middle. */
  zoomBy(factor, [x, y] = [this.stage.clientWidth / 2, this.stage.clientHeight / 2]) {
    const scale = Math.min(Math.max(this.zoom * factor, 0.05), 40);
    const share = scale / this.zoom;
    this.#show({ scale, x: x - share * (x - this.#view.x), y: y - share * (y - this.#view.y) });
  }

  /** Return the point of the photo below a pointer. */
  pointOf(event) {
    const [x, y] = this.#place(event);
    return [(x - this.#view.x) / this.zoom, (y - this.#view.y) / this.zoom];
  }

  #place(event) {
    const frame = this.stage.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  }

  #show(view) {
    this.#view = view;
    this.#fitted = false;
    byId("world").setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.scale})`);
    this.stage.style.setProperty("--unzoom", 1 / view.scale);
    this.stage.classList.toggle("pixels", view.scale > 4);
    byId("zoom").textContent = `${Math.round(view.scale * 100)}%`;
  }

  #down(event) {
    if (!this.#photo || event.target.closest("button")) return;
    this.#pointers.set(event.pointerId, this.#place(event));
    this.#moved = this.#pointers.size > 1;
    this.#distance = this.#spread();
  }

  #move(event) {
    const before = this.#pointers.get(event.pointerId);
    const place = this.#place(event);
    if (!before) {
      this.onhover(event.target.closest("[data-object]")?.dataset.object ?? null, ...place);
      return;
    }
    const [dx, dy] = [place[0] - before[0], place[1] - before[1]];
    if (!this.#moved && Math.hypot(dx, dy) < CLICK) return;
    if (!this.#moved) this.stage.setPointerCapture(event.pointerId);
    this.#moved = true;
    this.#pointers.set(event.pointerId, place);
    const share = 1 / this.#pointers.size; // two fingers move the photo by the mean of their moves
    this.#show({ ...this.#view, x: this.#view.x + share * dx, y: this.#view.y + share * dy });
    if (this.#pointers.size === 2) {
      this.zoomBy(this.#spread() / (this.#distance || 1), this.#middle());
      this.#distance = this.#spread();
    }
  }

  #up(event) {
    const pressed = this.#pointers.delete(event.pointerId);
    if (!pressed || this.#moved || this.onpoint(this.pointOf(event), event)) return;
    this.onselect(event.target.closest("[data-object]")?.dataset.object ?? null);
  }

  #wheel(event) {
    event.preventDefault();
    this.zoomBy(Math.exp(-Math.sign(event.deltaY) * Math.min(Math.abs(event.deltaY), 100) * 0.003), this.#place(event));
  }

  #spread() {
    const [first, second] = this.#pointers.values();
    return second ? Math.hypot(first[0] - second[0], first[1] - second[1]) : 0;
  }

  #middle() {
    const [first, second] = this.#pointers.values();
    return [(first[0] + second[0]) / 2, (first[1] + second[1]) / 2];
  }
}

function area([left, top, right, bottom]) {
  return (right - left) * (bottom - top);
}

function drawObject({ id, polygons, rank }, selected) {
  const d = pathData(polygons);
  const { fill } = rankColor(rank);
  return svg(
    "g",
    { "data-object": id, class: `object${selected ? " selected" : ""}${rank === null ? " unranked" : ""}` },
    svg("path", { d, fill, class: "tint", "fill-rule": "evenodd" }),
    svg("path", { d, class: "casing" }),
    svg("path", { d, stroke: fill, class: "outline" }),
  );
}

function drawBadge({ id, rank }, place) {
  const { fill, ink } = rankColor(rank);
  const badge = svg(
    "g",
    { class: "badge fixed", "data-object": id },
    svg("circle", { r: BADGE, class: "rim" }),
    svg("circle", { r: BADGE - 2.5, fill }),
    svg("text", { fill: ink, "text-anchor": "middle", dy: "0.35em" }, String(rank)),
  );
  return at(badge, place);
}
