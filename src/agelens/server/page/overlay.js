// Boxes of faces over a picture or a video. Places are shares of the picture, so they stay right at any size.

import { faceWords, tagWords } from "./words.js";

const CROWD = 14; // from so many faces on, only the picked one is labelled
const TINY = 58; // pixels on the screen; below, a label is short

export class FaceOverlay {
  // `stage` is positioned and exactly as large as the picture. `onPick(index)` is told which face is looked at.
  constructor(stage, { onPick = () => {}, label = "Faces" } = {}) {
    this.box = document.createElement("div");
    this.box.className = "faces";
    this.box.setAttribute("role", "group");
    this.box.setAttribute("aria-label", label);
    stage.append(this.box);
    this.onPick = onPick;
    this.record = null;
    this.picked = -1;
    this.sizes = new ResizeObserver(() => this.#label());
    this.sizes.observe(this.box);
    this.box.addEventListener("keydown", (event) => this.#move(event));
  }

  // Draws the faces of a record; called again and again for a video.
  show(record) {
    this.record = record;
    const buttons = this.#buttons(record.faces.length);
    record.faces.forEach((face, index) => this.#place(buttons[index], face, index));
    this.box.classList.toggle("crowd", record.faces.length >= CROWD);
    this.#label();
    if (this.picked >= record.faces.length) this.picked = -1;
  }

  clear() {
    this.record = null;
    this.picked = -1;
    this.box.replaceChildren();
  }

  pick(index) {
    this.picked = index;
    [...this.box.children].forEach((button, other) => {
      button.classList.toggle("picked", other === index);
      button.setAttribute("aria-pressed", String(other === index));
      button.tabIndex = other === Math.max(index, 0) ? 0 : -1;
    });
  }

  remove() {
    this.sizes.disconnect();
    this.box.remove();
  }

  #buttons(number) {
    while (this.box.children.length > number) this.box.lastChild.remove();
    while (this.box.children.length < number) {
      const index = this.box.children.length;
      const button = document.createElement("button");
      button.type = "button";
      button.tabIndex = index === 0 ? 0 : -1;
      const tag = document.createElement("span");
      tag.className = "tag";
      tag.setAttribute("aria-hidden", "true");
      button.append(tag);
      for (const kind of ["pointerenter", "focus", "click"]) button.addEventListener(kind, () => this.#choose(index));
      this.box.append(button);
    }
    return this.box.children;
  }

  #choose(index) {
    if (index === this.picked) return;
    this.pick(index);
    this.onPick(index);
  }

  #place(button, face, index) {
    const { width, height } = this.record;
    const { box } = face;
    button.style.left = `${(100 * box.x) / width}%`;
    button.style.top = `${(100 * box.y) / height}%`;
    button.style.width = `${(100 * box.width) / width}%`;
    button.style.height = `${(100 * box.height) / height}%`;
    button.className = `face ${face.gender ? face.gender.label : ""}${index === this.picked ? " picked" : ""}`;
    button.setAttribute("aria-label", faceWords(face, index + 1));
    button.setAttribute("aria-pressed", String(index === this.picked));
  }

  #label() {
    if (!this.record) return;
    const { width: stageWidth, height: stageHeight } = this.box.getBoundingClientRect();
    this.record.faces.forEach((face, index) => {
      const button = this.box.children[index];
      const shown = (stageWidth * face.box.width) / this.record.width;
      const tiny = shown < TINY;
      button.classList.toggle("tiny", tiny);
      button.classList.toggle("low", (stageHeight * face.box.y) / this.record.height < 26);
      button.classList.toggle("right", face.box.x + face.box.width / 2 > 0.72 * this.record.width);
      button.firstChild.textContent = tagWords(face, tiny);
    });
  }

  #move(event) {
    const last = this.box.children.length - 1;
    const now = Math.max([...this.box.children].indexOf(document.activeElement), 0);
    const steps = { ArrowRight: now + 1, ArrowDown: now + 1, ArrowLeft: now - 1, ArrowUp: now - 1, Home: 0, End: last };
    if (!(event.key in steps) || last < 0) return;
    event.preventDefault();
    this.box.children[Math.min(Math.max(steps[event.key], 0), last)].focus();
  }
}
