// What keys do.

import { byId } from "./dom.js";
import { setRank, step } from "./ranking.js";

const OBJECT_KEYS = {
  c: "accept", x: "reject", n: "aside", t: "tie", e: "click", o: "outline", Delete: "delete", Backspace: "delete",
};

/**
 * Listen to the keyboard. Keys in fields and dialogs are left alone.
 * @param {object} page
 * @param {() => string|null} page.selected id of the selected object
 * @param {(id: string|null) => void} page.select
 * @param {(objects: object[], id: string) => void} page.edit saves changed objects
 * @param {(action: string, id: string) => void} page.act does what a button of an object does
 * @param {Record<string, () => void>} page.keys other keys and what they do
 */
export function listenToKeys({ store, tools, selected, select, edit, act, keys }) {
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select") || document.querySelector("dialog[open]") || event.altKey) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const id = selected();
    if (event.ctrlKey || event.metaKey) {
      if (key === "y" || (key === "z" && event.shiftKey)) store.redo();
      else if (key === "z") store.undo();
      else return;
    } else if (tools.key(event)) event.stopPropagation();
    else if (key === "ArrowUp" || key === "ArrowDown") moveOrSelect(key === "ArrowUp" ? -1 : 1, event.shiftKey);
    else if (id && key >= "1" && key <= "9") edit(setRank(store.objects, id, Number(key)), id);
    else if (id && OBJECT_KEYS[key]) act(OBJECT_KEYS[key], id);
    else if (keys[key]) keys[key]();
    else return;
    event.preventDefault();
  });

  function moveOrSelect(direction, shift) {
    const focused = document.activeElement.closest("[data-row]")?.dataset.row;
    if (focused && focused !== selected()) select(focused);
    if (!selected() || shift) selectNext(direction);
    else edit(step(store.objects, selected(), direction), selected());
  }

  function selectNext(direction) {
    const rows = [...byId("list").querySelectorAll("[data-row]")];
    const index = rows.findIndex((row) => row.dataset.row === selected());
    const next = rows[Math.min(Math.max(index + direction, 0), rows.length - 1)]?.dataset.row;
    const focused = document.activeElement.closest("#list");
    if (next) select(next);
    if (focused) document.querySelector(`[data-row="${CSS.escape(next)}"] .title`).focus();
  }
}
