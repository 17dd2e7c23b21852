// Tools that make and change masks: clicks (the server segments), drawing an outline, moving its points.

import { photoPath, request } from "./api.js";
import { at, byId, notify, svg } from "./dom.js";
import { points, ringArea, simplify } from "./geometry.js";
import { withNew, withObject } from "./ranking.js";

const HINTS = {
  click: "Click what belongs to the object; Shift-click what does not",
  draw: "Click along the outline; the first point or Enter closes it",
  outline: "Drag points; click the line to add one, Delete removes one",
};

export class Tools {
  #polygon = []; // points of the outline that is being drawn
  #rings = []; // simplified rings of the object whose points are being moved
  #queue = Promise.resolve();

  /**
   * @param {object} options
   * @param {AnnotationStore} options.store
   * @param {Viewer} options.viewer
   * @param {{selected: string|null}} options.selection
   * @param {() => void} options.onchange called when another tool was chosen
   */
  constructor({ store, viewer, selection, onchange }) {
    Object.assign(this, { store, viewer, selection, onchange, name: "select", positive: true });
  }

  /** Choose "select", "click" (change or add), "draw" (add) or "outline" (change). */
  choose(name) {
    this.name = name;
    this.positive = true;
    this.#polygon = [];
    byId("stage").dataset.tool = name;
    this.onchange();
  }

  /** Draw clicks, points and lines of the tool, and its hint. */
  draw() {
    const object = this.#object;
    const shapes = [];
    if (this.name === "click") shapes.push(...(object?.clicks?.points ?? []).map(drawClick));
    if (this.name === "draw") shapes.push(...drawLine(this.#polygon));
    if (this.name === "outline" && object) shapes.push(...this.#handles(object));
    const layer = byId("tool");
    const focused = [...layer.children].indexOf(document.activeElement);
    layer.replaceChildren(...shapes);
    layer.children[focused]?.focus();
    byId("tool-bar").hidden = this.name === "select";
    byId("tool-bar").dataset.tool = this.name;
    byId("hint").textContent = HINTS[this.name] ?? "";
  }

  /** Handle a click on the photo; return whether the tool used it. */
  point(point, event) {
    if (this.name === "click") this.#segment(point, this.positive && !event.shiftKey && event.button === 0);
    else if (this.name === "draw") this.#addPoint(point);
    else return false;
    return true;
  }

  /** Handle a key; return whether the tool used it. */
  key(event) {
    if (event.key === "Escape" && this.name !== "select") this.choose("select");
    else if (event.key === "Enter" && this.name === "draw") this.#close();
    else if (event.key === "Backspace" && this.#polygon.length) this.#polygon.pop();
    else return false;
    this.draw();
    return true;
  }

  get #object() {
    return this.store.objects.find(({ id }) => id === this.selection.selected);
  }

  /** Ask the server for the mask of all clicks on the object so far. Requests run one after another. */
  #segment([x, y], positive) {
    this.#enqueue(async (photo) => {
      const object = this.#object;
      const clicks = object?.clicks ?? { points: [], mask: object?.mask ?? null };
      const all = [...clicks.points, { x, y, positive }];
      const json = { points: all, mask: clicks.mask, box: null };
      const found = await request(photoPath(photo, "segment"), { method: "POST", json });
      return { ...found, clicks: { points: all, mask: clicks.mask } };
    }, this.selection.selected);
  }

  #addPoint(point) {
    const [first] = this.#polygon;
    const near = first && Math.hypot(first[0] - point[0], first[1] - point[1]) * this.viewer.zoom < 12;
    if (near && this.#polygon.length > 2) this.#close();
    else this.#polygon.push(point);
    this.draw();
  }

  #close() {
    if (this.#polygon.length < 3) return;
    this.#sendPolygons([this.#polygon.flat()], null);
    this.#polygon = [];
  }

  #sendPolygons(polygons, id, rings = {}) {
    this.#enqueue(async (photo) => {
      const found = await request(photoPath(photo, "polygon"), { method: "POST", json: { polygons } });
      rings.of = found.polygons; // keep the points that are being moved
      return found;
    }, id);
  }

  /** Change the mask of an object, or add one if the id is null, with what the server answers. */
  #enqueue(ask, id) {
    const { photo } = this.store;
    const run = async () => {
      byId("stage").classList.add("busy");
      try {
        const { mask, polygons, box, clicks } = await ask(photo);
        if (photo !== this.store.photo) return;
        if (!polygons.length) throw new Error("No pixels are left of the object. Delete it, or click again.");
        const target = id ?? (clicks && this.selection.selected);
        const shape = { mask, polygons, box, clicks };
        if (target) this.store.change(withObject(this.store.objects, target, { ...shape, state: "accepted" }));
        else this.#add(shape);
      } catch (error) {
        notify(error.message, "error");
      } finally {
        byId("stage").classList.remove("busy");
      }
    };
    this.#queue = this.#queue.then(run);
  }

  #add(shape) {
    const used = this.store.objects.map(({ id }) => Number(id.slice(1)) || 0);
    const id = `o${Math.max(0, ...used) + 1}`;
    this.selection.selected = id;
    const object = { id, score: null, class: "object", rank: null, state: "accepted", salient: true, ...shape };
    this.store.change(withNew(this.store.objects, object));
  }

  #handles(object) {
    if (this.#rings.of !== object.polygons) {
      const tolerance = Math.max(1, 4 / this.viewer.zoom);
      this.#rings = object.polygons.filter((ring) => ringArea(ring) > 4 * tolerance ** 2);
      this.#rings = this.#rings.map((ring) => points(simplify(ring, tolerance)));
      this.#rings.of = object.polygons;
    }
    const edges = this.#rings.flatMap((ring) => ring.map((_, index) => this.#edge(ring, index)));
    const handles = this.#rings.flatMap((ring) => ring.map((_, index) => this.#vertex(ring, index)));
    return [svg("path", { class: "drawn", d: this.#line() }), ...edges, ...handles];
  }

  #line() {
    return this.#rings.map((ring) => `M${ring.join(" ")}Z`).join("");
  }

  #edge(ring, index) {
    const [[x1, y1], [x2, y2]] = [ring[index], ring[(index + 1) % ring.length]];
    const onpointerdown = (event) => {
      event.stopPropagation();
      ring.splice(index + 1, 0, this.viewer.pointOf(event));
      this.#sendRings();
    };
    return svg("line", { x1, y1, x2, y2, class: "edge", onpointerdown });
  }

  #vertex(ring, index) {
    const point = ring[index];
    const label = `Point ${index + 1} of ${ring.length}; arrow keys move it`;
    const handle = svg("circle", { r: 6, class: "handle fixed", tabindex: 0, role: "button", "aria-label": label });
    const moveTo = ([x, y]) => {
      [point[0], point[1]] = [x, y];
      at(handle, point);
      byId("tool").querySelector(".drawn").setAttribute("d", this.#line());
    };
    const move = (event) => moveTo(this.viewer.pointOf(event));
    handle.addEventListener("pointerdown", (event) => {
      event.stopPropagation();
      handle.setPointerCapture(event.pointerId);
      handle.addEventListener("pointermove", move);
      handle.addEventListener("pointerup", () => this.#sendRings(), { once: true });
    });
    handle.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      const removed = ["Delete", "Backspace"].includes(event.key) && ring.length > 3;
      if (!step && !removed) return;
      event.stopPropagation();
      event.preventDefault();
      if (removed) ring.splice(index, 1);
      else moveTo([point[0] + step[0], point[1] + step[1]]);
      this.#sendRings();
    });
    return at(handle, point);
  }

  #sendRings() {
    const polygons = this.#rings.map((ring) => ring.flat());
    this.#sendPolygons(polygons, this.selection.selected, this.#rings);
  }
}

function drawClick({ x, y, positive }) {
  const sign = positive ? "M-4 0H4M0-4V4" : "M-4 0H4";
  const kind = positive ? "positive" : "negative";
  const shapes = [svg("circle", { r: 8 }), svg("path", { d: sign })];
  return at(svg("g", { class: `click ${kind} fixed` }, ...shapes), [x, y]);
}

function drawLine(polygon) {
  const dots = polygon.map((point) => at(svg("circle", { r: 5, class: "handle fixed" }), point));
  return [svg("polyline", { points: polygon.join(" "), class: "drawn" }), ...dots];
}
