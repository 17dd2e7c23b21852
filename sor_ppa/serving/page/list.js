// The list of objects: most salient first, reordered by dragging, with the actions of the selected object.

import { photoPath } from "./api.js";
import { rankColor } from "./colors.js";
import { byId, html, icon, iconButton, objectName, svg } from "./dom.js";

const SECTIONS = [
  ["ranked", ""],
  ["aside", "Not salient"],
  ["rejected", "Rejected"],
];

export class ObjectList {
  /**
   * @param {object} options
   * @param {(id: string) => void} options.onselect
   * @param {(id: string, next: string|null) => void} options.ondrop the object was dropped before another one
   * @param {(id: string) => void} options.onaside the object was dropped below "Not salient"
   * @param {(action: string, id: string) => void} options.onaction a button of the selected object
   */
  constructor({ onselect, ondrop, onaside, onaction }) {
    Object.assign(this, { onselect, ondrop, onaside, onaction, list: byId("list") });
  }

  /** Show the objects of a photo. */
  draw(photo, objects, selected) {
    const focused = document.activeElement?.closest("#list li")?.dataset.row;
    const control = document.activeElement?.dataset?.control;
    const rows = SECTIONS.flatMap(([section, title]) => {
      const members = objects.filter((object) => sectionOf(object) === section);
      const heading = title && members.length ? [html("li", { class: "heading", "data-section": section }, title)] : [];
      return [...heading, ...members.map((object, index) => this.#row(photo, object, members[index - 1], selected))];
    });
    this.list.replaceChildren(...rows);
    this.list.querySelector(`[data-row="${CSS.escape(focused)}"] [data-control="${control}"]`)?.focus();
  }

  /** Scroll the list, but not the page of a narrow window, to an object. */
  reveal(id) {
    const row = this.list.querySelector(`[data-row="${CSS.escape(id)}"]`);
    if (this.list.scrollHeight > this.list.clientHeight) row?.scrollIntoView({ block: "nearest" });
  }

  #row(photo, object, above, selected) {
    const { id, rank, score, state } = object;
    const tied = rank !== null && above?.rank === rank;
    const chosen = id === selected;
    const name = objectName(object);
    const place = rank === null ? "not ranked" : `rank ${rank}${tied ? ", tied" : ""}`;
    const confidence = score === null ? "added by hand" : `confidence ${Math.round(score * 100)}%`;
    const { fill, ink } = rankColor(rank);
    const badge = html("span", { class: "number" }, rank === null ? "–" : String(rank));
    badge.style.setProperty("background", fill);
    badge.style.setProperty("color", ink);
    const handle = iconButton("grip", `Move ${name}, ${place}; arrow keys move it`, () => this.onselect(id), {
      class: "grip",
      "data-control": "grip",
      onpointerdown: (event) => this.#drag(event, id),
    });
    const text = html("span", { class: "text" }, html("b", {}, name), html("small", {}, confidence));
    const title = html(
      "button",
      {
        type: "button",
        class: "title",
        "data-control": "title",
        "aria-pressed": String(chosen),
        "aria-label": `${name}, ${place}, ${confidence}, ${state}`,
        onclick: () => this.onselect(id),
      },
      badge,
      thumbnail(photo, object),
      text,
      state === "accepted" ? icon("check") : null,
    );
    const classes = [chosen && "selected", tied && "tied", state].filter(Boolean).join(" ");
    const row = html("li", { class: classes, "data-row": id, "data-section": sectionOf(object) }, handle, title);
    if (chosen) row.append(this.#actions(object, tied));
    return row;
  }

  #actions({ id, rank, state, salient }, tied) {
    const button = (action, symbol, label, disabled = false) =>
      html(
        "button",
        { type: "button", disabled, "data-control": action, onclick: () => this.onaction(action, id) },
        icon(symbol),
        label,
      );
    return html(
      "div",
      { class: "actions" },
      button("accept", "check", rank === null ? "Put in order" : "Accept", state === "accepted" && salient),
      button("reject", "cross", "Reject", state === "rejected"),
      button("aside", "eye-off", "Not salient", !salient || state === "rejected"),
      button("tie", "tie", tied ? "Split tie" : "Tie with above", rank === null || (rank === 1 && !tied)),
      button("click", "wand", "Edit by clicks"),
      button("outline", "polygon", "Edit outline"),
      button("delete", "trash", "Delete"),
    );
  }

  /** Drag a row with the mouse, a pen or a finger. */
  #drag(start, id) {
    const row = this.list.querySelector(`[data-row="${CSS.escape(id)}"]`);
    const others = [...this.list.children].filter((other) => other !== row);
    const grip = start.currentTarget;
    const scroller = this.list.scrollHeight > this.list.clientHeight ? this.list : document.querySelector("main");
    const frame = scroller.getBoundingClientRect();
    const scrolled = scroller.scrollTop;
    let target; // the element before which the row is dropped; null: at the end
    grip.setPointerCapture(start.pointerId);
    const move = (event) => {
      if (target === undefined && Math.abs(event.clientY - start.clientY) < 4) return;
      if (event.clientY < frame.top + 40) scroller.scrollTop -= 14;
      if (event.clientY > frame.bottom - 40) scroller.scrollTop += 14;
      const offset = event.clientY - start.clientY + scroller.scrollTop - scrolled;
      row.classList.add("dragged");
      row.style.setProperty("--drag", `${offset}px`);
      const below = others.find((other) => {
        const { top, height } = other.getBoundingClientRect();
        return event.clientY < top + height / 2;
      });
      target = below ?? null;
      for (const other of others) other.classList.toggle("drop", other === below);
      this.list.classList.toggle("drop-end", !below);
    };
    const end = (event) => {
      grip.removeEventListener("pointermove", move);
      grip.removeEventListener("pointerup", end);
      grip.removeEventListener("pointercancel", end);
      row.classList.remove("dragged");
      this.list.classList.remove("drop-end");
      for (const other of others) other.classList.remove("drop");
      if (target === undefined || event.type === "pointercancel") return;
      const above = target ? others[others.indexOf(target) - 1] : others.at(-1);
      const ranked = !above || above.dataset.section === "ranked";
      if (ranked) this.ondrop(id, target?.dataset.section === "ranked" ? target.dataset.row : null);
      else this.onaside(id);
    };
    grip.addEventListener("pointermove", move);
    grip.addEventListener("pointerup", end);
    grip.addEventListener("pointercancel", end);
  }
}

function sectionOf({ rank, state }) {
  if (state === "rejected") return "rejected";
  return rank === null ? "aside" : "ranked";
}

/** Return the part of the photo around an object. */
function thumbnail({ id, width, height }, { box: [left, top, right, bottom] }) {
  const side = Math.max(right - left, bottom - top) * 1.15;
  const [x, y] = [(left + right - side) / 2, (top + bottom - side) / 2];
  const image = svg("image", { href: photoPath(id, "image"), width, height });
  return svg("svg", { class: "thumbnail", viewBox: `${x} ${y} ${side} ${side}`, "aria-hidden": "true" }, image);
}
