// Dialogs: conflict of two windows, agreement of annotators, consensus and import.

import { request } from "./api.js";
import { rankColor } from "./colors.js";
import { byId, html, notify, objectName } from "./dom.js";

/** Ask which of two versions to keep: "mine" or "theirs". */
export function askConflict(mine, theirs) {
  byId("conflict-mine").replaceChildren(...summary(mine.objects));
  byId("conflict-theirs").replaceChildren(...summary(theirs.objects));
  const dialog = byId("conflict");
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.oncancel = (event) => event.preventDefault(); // Escape is no answer
    for (const button of dialog.querySelectorAll("button")) {
      button.onclick = () => {
        dialog.close();
        resolve(button.value);
      };
    }
  });
}

/** Show how well annotators agree, over all photos and on the open one. */
async function showAgreement(photo) {
  const { pairs, annotators, photos, damaged } = await request("/api/agreement");
  const known = annotators.length ? `So far: ${annotators.join(", ")}.` : "Nobody has ranked a photo yet.";
  const missing = html("p", {}, `Two annotators must rank the same photo. ${known}`);
  const all = pairs.map((pair) => [pair.a, pair.b, pair.photos, ...measures(pair)]);
  const open = photos.find((row) => row.photo === photo?.id && row.annotators.length > 1);
  const one = open?.each.map((row) => [row.a, "the others", ...measures(row)]) ?? [];
  const head = ["Annotator", "compared with", "Kendall's tau", "SA-SOR"];
  byId("agreement-table").replaceChildren(
    ...(one.length ? [html("h3", {}, photo.name), table(head, one)] : []),
    ...(one.length ? [html("h3", {}, "All photos")] : []),
    all.length ? table(head.toSpliced(2, 0, "Photos"), all) : missing,
    html("p", {}, leftOut(damaged)),
  );
  byId("agreement").showModal();
}

function measures({ kendall_tau: tau, sa_sor: score }) {
  return [tau, score].map((value) => (value === null || value === undefined ? "–" : value.toFixed(3)));
}

function table(head, rows) {
  const titles = html("tr", {}, ...head.map((title) => html("th", { scope: "col" }, title)));
  const lines = rows.map((cells) => html("tr", {}, ...cells.map((cell) => html("td", {}, String(cell)))));
  return html("table", {}, html("thead", {}, titles), html("tbody", {}, ...lines));
}

function leftOut(damaged) {
  return damaged.length ? `Left out, as their files are damaged: ${damaged.join(", ")}.` : "";
}

/**
 * Connect the buttons of all dialogs.
 * @param {() => string} annotator whose documents are imported, and exported for CVAT
 * @param {() => object|null} photo the open photo
 * @param {() => Promise<void>} onimport called after data were imported
 */
export function connectDialogs(annotator, photo, onimport) {
  for (const button of document.querySelectorAll("[data-opens]")) {
    button.addEventListener("click", () => byId(button.dataset.opens).showModal());
  }
  for (const dialog of document.querySelectorAll("dialog:not(#conflict)")) {
    dialog.addEventListener("click", (event) => (event.target === dialog ? dialog.close() : null));
  }
  const report = (work) => () => work().catch((error) => notify(error.message, "error"));
  byId("agreement-button").addEventListener("click", report(() => showAgreement(photo())));
  byId("consensus").addEventListener("click", report(writeConsensus));
  byId("export-cvat").addEventListener("click", (event) => {
    event.target.href = `/api/export?${new URLSearchParams({ format: "cvat", annotator: annotator() })}`;
  });
  byId("import").addEventListener("click", () => byId("import-file").click());
  byId("import-file").addEventListener(
    "change",
    report(async () => {
      const [body] = byId("import-file").files;
      byId("import-file").value = "";
      const query = new URLSearchParams({ format: byId("import-format").value, annotator: annotator() });
      const json = JSON.parse(await body.text());
      const found = await request(`/api/import?${query}`, { method: "POST", json });
      byId("import-result").textContent =
        `Imported ${found.imported}, unchanged ${found.unchanged}, kept as they are ${found.kept.length}, ` +
        `photos that are not here ${found.unknown.length}.`;
      await onimport();
    }),
  );
}

async function writeConsensus() {
  const path = `/api/consensus?method=${byId("method").value}`;
  const { photos, objects, damaged } = await request(path, { method: "POST" });
  byId("consensus-result").textContent =
    `Wrote ${objects} objects of ${photos} photos to annotations/rank_train.json. ${leftOut(damaged)}`;
}

function summary(objects) {
  return objects.map((object) => {
    const { rank, state } = object;
    const number = html("span", { class: "number" }, rank === null ? "–" : String(rank));
    number.style.setProperty("background", rankColor(rank).fill);
    number.style.setProperty("color", rankColor(rank).ink);
    return html("li", {}, number, `${objectName(object)}${state === "rejected" ? ", rejected" : ""}`);
  });
}
