// The annotation of the open photo: changes with undo, saving after each, drafts while the server is away.

import { photoPath, request } from "./api.js";

const SAVE_AFTER = 150; // milliseconds
const RETRY_AFTER = 2000;

export class AnnotationStore {
  #past = [];
  #future = [];
  #timer;
  #turn = 0;
  #saving = null;
  #saved = []; // the objects that the server has
  #unanswered = []; // names of saves that the server may have made
  #drafts;

  /**
   * @param {object} options
   * @param {string} options.workspace name under which drafts are kept in the browser
   * @param {(mine, theirs) => Promise<"mine"|"theirs">} options.resolve asks which of two documents to keep
   * @param {() => void} options.onchange called after the objects changed
   * @param {(status: string, detail?: string) => void} options.onstatus saved, saving, offline or failed
   */
  constructor({ workspace, resolve, onchange, onstatus }) {
    this.#drafts = new Drafts(workspace);
    Object.assign(this, { resolve, onchange, onstatus, photo: null, annotator: null, version: 0 });
    this.objects = this.#saved;
  }

  get dirty() {
    return this.objects !== this.#saved || this.#unanswered.length > 0;
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  get canRedo() {
    return this.#future.length > 0;
  }

  /** Open the annotation of a photo; continue a draft that was not saved. */
  async open(photo, annotator) {
    const turn = (this.#turn += 1);
    await this.save();
    const document = await request(photoPath(photo, "annotation", { annotator }));
    if (!this.#isOpen(photo, annotator)) await this.save(); // what was changed meanwhile
    if (turn !== this.#turn) return; // another photo was opened meanwhile
    Object.assign(this, { photo, annotator });
    [this.#past, this.#future] = [[], []];
    this.#adopt(document);
    const draft = this.#drafts.take(photo, annotator);
    this.#unanswered = draft?.unanswered ?? []; // a save may still be on its way
    const known = draft?.version === document.version || draft?.unanswered?.includes(document.change);
    if (draft && known) this.change(draft.objects);
    else if (draft) await this.#settle(draft, document);
  }

  /** Replace the objects; undo() returns to the present ones. */
  change(objects) {
    if (objects === this.objects) return;
    this.#past.push(this.objects);
    this.#future = [];
    this.#show(objects);
  }

  undo() {
    if (!this.canUndo) return;
    this.#future.push(this.objects);
    this.#show(this.#past.pop());
  }

  redo() {
    if (!this.canRedo) return;
    this.#past.push(this.objects);
    this.#show(this.#future.pop());
  }

  /** Read the annotation again if another window has changed it and nothing is unsaved here. */
  async refresh() {
    if (!this.photo || this.dirty) return;
    const { photo, annotator } = this;
    const document = await request(photoPath(photo, "annotation", { annotator }));
    if (document.version <= this.version || this.dirty || photo !== this.photo) return;
    this.#past.push(this.objects);
    this.#adopt(document);
  }

  /** Send what is unsaved. */
  async save() {
    clearTimeout(this.#timer);
    while (this.#saving) await this.#saving;
    if (!this.photo) return;
    if (!this.dirty) {
      // Undo has led back to what the server has.
      this.#drafts.remove(this.photo, this.annotator);
      this.onstatus("saved");
      return;
    }
    this.#saving = this.#put();
    await this.#saving;
    this.#saving = null;
  }

  /** Take over what the server answered after it stored a document of its own. */
  adoptProposal(document) {
    this.#past.push(this.objects);
    this.#adopt(document);
  }

  async #put() {
    const { objects, photo, annotator } = this;
    const change = Math.random().toString(36).slice(2);
    const before = this.#unanswered;
    this.#unanswered = [...before, change].slice(-100);
    this.#keepDraft();
    this.onstatus("saving");
    try {
      const answer = await putObjects({ ...this.document, version: this.version, objects, change });
      if (!this.#isOpen(photo, annotator)) return;
      this.#unanswered = [];
      [this.document, this.version, this.#saved] = [answer, answer.version, objects];
      if (!this.dirty) this.#drafts.remove(photo, annotator);
      this.onstatus(this.dirty ? "saving" : "saved");
    } catch (error) {
      if (!this.#isOpen(photo, annotator)) return;
      if (error.status === 409 && before.includes(error.body.current.change)) {
        // an earlier save of this window, whose answer was lost
        [this.version, this.#saved] = [error.body.current.version, error.body.current.objects];
        this.#later(0, "saving");
      } else if (error.status === 409) await this.#settle(this, error.body.current);
      else if (error.temporary) this.#later(RETRY_AFTER, "offline");
      else this.onstatus("failed", error.message);
    }
  }

  #isOpen(photo, annotator) {
    return photo === this.photo && annotator === this.annotator;
  }

  async #settle(mine, theirs) {
    this.version = theirs.version;
    if ((await this.resolve(mine, theirs)) === "mine") {
      this.#saved = theirs.objects;
      this.change(mine.objects);
      this.#later(0, "saving");
    } else {
      this.#past.push(mine.objects);
      this.#drafts.remove(this.photo, this.annotator);
      this.#adopt(theirs);
    }
  }

  #adopt(document) {
    this.document = document;
    this.#unanswered = [];
    [this.version, this.#saved, this.objects] = [document.version, document.objects, document.objects];
    this.onstatus("saved");
    this.onchange();
  }

  #show(objects) {
    this.objects = objects;
    this.#keepDraft();
    this.#later(SAVE_AFTER, "saving");
    this.onchange();
  }

  #keepDraft() {
    const { version, objects } = this;
    this.#drafts.keep({ ...this.document, version, objects, unanswered: this.#unanswered });
  }

  #later(milliseconds, status) {
    this.onstatus(status);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.save(), milliseconds);
  }

  /** Save the drafts of photos that are not open, from before a crash; leave those with conflicts. */
  async saveDrafts() {
    for (const { key, ...document } of this.#drafts.list()) {
      if (this.#isOpen(document.photo, document.annotator)) continue;
      await putObjects({ ...document, change: "" }).then(() => localStorage.removeItem(key)).catch(() => {});
    }
  }
}

function putObjects({ photo, annotator, version, width, height, model, objects, change }) {
  // The server makes polygons and boxes from the masks. Without them a request fits the 64 KB of keepalive.
  const sent = objects.map(({ polygons, box, clicks, ...object }) => object);
  const body = { photo, annotator, version, width, height, model, change, objects: sent };
  return request(photoPath(photo, "annotation", { annotator }), { method: "PUT", json: body });
}

/** Unsaved objects in the browser's storage, one entry for each photo, annotator and tab. */
class Drafts {
  #prefix;
  #tab;

  constructor(workspace) {
    this.#prefix = `sor-ppa draft ${workspace} `;
    this.#tab = sessionStorage.getItem("sor-ppa tab") ?? Math.random().toString(36).slice(2);
    sessionStorage.setItem("sor-ppa tab", this.#tab);
  }

  keep(document) {
    try {
      localStorage.setItem(this.#key(document.photo, document.annotator), JSON.stringify(document));
    } catch {
      // The storage is full. The server still gets the change.
    }
  }

  remove(photo, annotator) {
    localStorage.removeItem(this.#key(photo, annotator));
  }

  list() {
    const keys = Object.keys(localStorage).filter((key) => key.startsWith(this.#prefix));
    return keys.map((key) => ({ ...JSON.parse(localStorage.getItem(key)), key }));
  }

  /** Return the draft of a photo, of this tab if it has one, and move it to this tab. */
  take(photo, annotator) {
    const drafts = this.list().filter((draft) => draft.photo === photo && draft.annotator === annotator);
    const draft = drafts.find(({ key }) => key === this.#key(photo, annotator)) ?? drafts[0];
    if (draft) this.keep(draft);
    if (draft && draft.key !== this.#key(photo, annotator)) localStorage.removeItem(draft.key);
    return draft;
  }

  #key(photo, annotator) {
    return `${this.#prefix}${this.#tab} ${photo} ${annotator}`;
  }
}
