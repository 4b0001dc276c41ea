// One picture on the page: its name, its progress, then its faces or a sentence.

import { svg } from "./chart.js";
import { cutFace, make, showFace } from "./detail.js";
import { FaceOverlay } from "./overlay.js";
import { facesFound } from "./words.js";

export class Card {
  // `onDownload(card)` is called for the annotated picture, `fetchDrawn(card)` gives it as a Blob.
  constructor(file, { onDownload, fetchDrawn }) {
    this.file = file;
    this.record = null;
    this.sentence = "";
    this.fetchDrawn = fetchDrawn;
    this.element = make("article", "card waiting");
    this.title = make("h3", "", file.name || "picture");
    this.state = make("p", "quiet", "waiting");
    this.download = make("button", "button small", "Download picture");
    this.download.type = "button";
    this.download.hidden = true;
    this.download.setAttribute("aria-label", `Download ${file.name} with boxes and labels`);
    this.download.addEventListener("click", () => onDownload(this));
    const head = make("div", "card-head");
    head.append(this.title, this.state, this.download);
    this.picture = make("img");
    this.picture.alt = `The picture ${file.name}`;
    this.stage = make("div", "stage");
    this.stage.append(this.picture);
    this.view = make("div", "view");
    this.view.append(this.stage);
    this.detail = make("div", "detail");
    this.detail.hidden = true;
    this.body = make("div", "card-body");
    this.body.append(this.view, this.detail);
    this.bar = make("progress");
    this.bar.max = 1;
    this.bar.setAttribute("aria-label", `Progress of ${file.name}`);
    const progress = make("div", "card-progress");
    progress.append(this.bar);
    this.element.append(head, this.body, progress);
    this.progress = progress;
    this.loaded = this.#load(URL.createObjectURL(file));
  }

  #load(address) {
    this.address = address;
    return new Promise((resolve) => {
      this.picture.onload = () => resolve(true);
      this.picture.onerror = () => resolve(false);
      this.picture.src = address;
    });
  }

  wait() {
    this.element.className = "card waiting";
    this.state.textContent = "waiting";
    this.progress.hidden = false;
    this.bar.value = 0;
  }

  advance(share) {
    this.bar.value = 0.6 * share;
    this.state.textContent = share < 1 ? `sending, ${Math.round(100 * share)}%` : "looking for faces";
  }

  fail(sentence) {
    this.record = null;
    this.sentence = sentence;
    this.progress.hidden = true;
    this.element.className = "card failed";
    this.state.textContent = "";
    this.body.remove();
    this.#say(sentence);
  }

  #say(sentence) {
    this.element.querySelector(".card-sentence")?.remove();
    const words = make("p", "card-sentence");
    const mark = svg(
      "svg",
      { class: "mark", viewBox: "0 0 24 24", "aria-hidden": "true", fill: "none", stroke: "currentColor", "stroke-width": 2, "stroke-linecap": "round" },
      svg("circle", { cx: 12, cy: 12, r: 10 }),
      svg("path", { d: "M12 7v6M12 16.6v.2" }),
    );
    words.append(mark, make("span", "", sentence));
    this.element.append(words);
  }

  async finish(record) {
    this.record = record;
    this.sentence = "";
    this.progress.hidden = true;
    this.element.querySelector(".card-sentence")?.remove();
    this.element.className = record.faces.length ? "card" : "card alone";
    this.state.textContent = `${facesFound(record)}, ${record.width} × ${record.height}`;
    this.download.hidden = false;
    if (!this.body.isConnected) this.element.append(this.body);
    const isShown = (await this.loaded) && this.#fits(record);
    if (!isShown) await this.#showDrawn();
    this.overlay?.remove();
    this.detail.hidden = !record.faces.length;
    if (!record.faces.length) return;
    this.overlay = new FaceOverlay(this.stage, {
      label: `Faces in ${record.source}`,
      onPick: (index) => this.#pick(index, isShown),
    });
    this.overlay.box.classList.toggle("drawn", !isShown);
    this.overlay.show(record);
    this.overlay.pick(0);
    this.#pick(0, isShown);
  }

  // A browser may turn a picture otherwise than the server, or not show its format at all.
  #fits({ width, height }) {
    const { naturalWidth, naturalHeight } = this.picture;
    return naturalWidth > 0 && Math.abs(naturalWidth / naturalHeight - width / height) < 0.02 * (width / height);
  }

  async #showDrawn() {
    try {
      const drawn = await this.fetchDrawn(this);
      URL.revokeObjectURL(this.address);
      await this.#load(URL.createObjectURL(drawn));
    } catch {
      this.view.hidden = true; // numbers without a picture are better than neither
    }
  }

  #pick(index, isShown) {
    const crop = isShown || this.picture.naturalWidth ? cutFace(this.picture, this.record, this.record.faces[index]) : null;
    showFace(this.detail, this.record, index, crop);
  }

  remove() {
    URL.revokeObjectURL(this.address);
    this.overlay?.remove();
    this.element.remove();
  }
}
