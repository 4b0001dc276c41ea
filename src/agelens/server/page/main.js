// The page: takes pictures in, shows what comes back.

import { Api, Problem } from "./api.js";
import { Camera } from "./camera.js";
import { Card } from "./card.js";
import { fillTable, toCsv } from "./table.js";
import { count, explain, facesFound } from "./words.js";

const AT_ONCE = 3;
const byId = (id) => document.getElementById(id);

const api = new Api(askForKey);
const camera = new Camera(byId("video"));
const cards = [];
const queue = [];
let running = 0;
let limits = null;
let round = 0; // raised when options change: what was asked before counts no more

function query() {
  const values = Object.fromEntries(new FormData(byId("options")));
  if (!values.min_face) delete values.min_face;
  return values;
}

function say(words) {
  byId("said").textContent = words;
}

let toastTimer = 0;
function toast(words) {
  const box = byId("toast");
  box.textContent = words;
  box.classList.add("shown");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => box.classList.remove("shown"), 4000);
}

function add(files) {
  const some = [...files];
  if (!some.length) return;
  const isFirst = cards.length === 0;
  for (const file of some) {
    const card = new Card(file, { onDownload: download, fetchDrawn: (one) => api.annotate(one.file, query()) });
    cards.push(card);
    queue.push(card);
    byId("cards").append(card.element);
  }
  byId("results").hidden = false;
  if (isFirst) byId("results").scrollIntoView({ block: "start" });
  update();
  work();
}

function work() {
  while (running < AT_ONCE && queue.length) {
    running += 1;
    look(queue.shift()).finally(() => {
      running -= 1;
      update();
      work();
    });
  }
}

async function look(card) {
  const mine = round;
  try {
    const record = await api.predict(
      card.file,
      { ...query(), distribution: "true" },
      { onProgress: (share) => mine === round && card.advance(share) },
    );
    if (mine !== round || !cards.includes(card)) return;
    await card.finish(record);
    say(`${record.source}: ${facesFound(record)}.`);
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (mine !== round || !cards.includes(card)) return;
    const sentence = explain(problem.code, problem.message, limits);
    card.error = { code: problem.code, message: problem.message };
    card.fail(sentence);
    say(`${card.file.name}: ${sentence}`);
  }
}

// The records of all that is done, also of what failed, as the command writes them.
function records() {
  const model = cards.find((card) => card.record)?.record.model ?? { name: "", sha256: "" };
  return cards
    .filter((card) => card.record || card.error)
    .map((card) => card.record ?? {
      schema: "agelens.prediction/1",
      source: card.file.name,
      width: null,
      height: null,
      faces: [],
      model,
      error: card.error,
    });
}

function update() {
  const done = cards.filter((card) => card.record || card.sentence).length;
  const faces = cards.reduce((sum, card) => sum + (card.record?.faces.length ?? 0), 0);
  const failed = cards.filter((card) => card.sentence).length;
  const parts = [count(cards.length, "picture"), count(faces, "face")];
  if (failed) parts.push(`${failed} can’t be read`);
  byId("summary").textContent = parts.join(", ");
  byId("progress").hidden = done === cards.length;
  byId("progress-bar").max = Math.max(cards.length, 1);
  byId("progress-bar").value = done;
  byId("progress-words").textContent = `${done} of ${cards.length}`;
  const all = records();
  byId("table-box").hidden = !all.length;
  fillTable(byId("rows"), all);
  for (const id of ["copy", "csv"]) byId(id).disabled = !all.length;
}

function clear() {
  round += 1;
  queue.length = 0;
  cards.splice(0).forEach((card) => card.remove());
  byId("results").hidden = true;
  update();
  byId("choose").focus();
  say("Cleared.");
}

function lookAgain() {
  round += 1;
  queue.length = 0;
  for (const card of cards) {
    card.record = null;
    card.error = null;
    card.sentence = "";
    card.wait();
    queue.push(card);
  }
  update();
  work();
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

async function download(card) {
  card.download.disabled = true;
  try {
    save(await api.annotate(card.file, query()), `${card.file.name.replace(/\.[^.]*$/, "")}.agelens.jpg`);
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    toast(explain(problem.code, problem.message, limits));
  } finally {
    card.download.disabled = false;
  }
}

async function copyJson() {
  const text = JSON.stringify(records().map(withoutDistribution), null, 2);
  try {
    await navigator.clipboard.writeText(text);
    toast("Copied.");
  } catch {
    save(new Blob([text], { type: "application/json" }), "agelens.json"); // pages without https may not copy
    toast("This browser doesn’t let the page copy, so the file was saved.");
  }
}

function withoutDistribution(record) {
  const faces = record.faces.map(({ age_distribution: _, ...face }) => face);
  return { ...record, faces };
}

async function askForKey() {
  const dialog = byId("key-dialog");
  if (!dialog.open) dialog.showModal();
  await new Promise((done) => dialog.addEventListener("close", done, { once: true }));
  return byId("key").value;
}

async function openCamera() {
  const panel = byId("camera");
  if (!Camera.exists) {
    toast("Browsers give the camera only to pages with https, or on this machine itself.");
    return;
  }
  panel.hidden = false;
  try {
    await camera.open();
    byId("turn").hidden = (await camera.countCameras()) < 2;
    byId("shoot").focus();
  } catch (error) {
    panel.hidden = true;
    toast(error.message);
  }
}

function closeCamera() {
  camera.close();
  byId("camera").hidden = true;
  byId("open-camera").focus();
}

let shots = 0;
async function shoot() {
  shots += 1;
  add([await camera.shoot(`camera-${shots}.jpg`)]);
}

async function tryExample() {
  const answer = await fetch("page/example.jpg");
  add([new File([await answer.blob()], "astronaut.jpg", { type: "image/jpeg" })]);
}

function listen() {
  byId("choose").addEventListener("click", () => byId("files").click());
  byId("files").addEventListener("change", (event) => {
    add(event.target.files);
    event.target.value = "";
  });
  byId("example").addEventListener("click", tryExample);
  byId("open-camera").addEventListener("click", openCamera);
  byId("close-camera").addEventListener("click", closeCamera);
  byId("shoot").addEventListener("click", shoot);
  byId("turn").addEventListener("click", () => camera.turn().catch((error) => toast(error.message)));
  byId("copy").addEventListener("click", copyJson);
  byId("csv").addEventListener("click", () => save(new Blob([toCsv(records())], { type: "text/csv" }), "agelens.csv"));
  byId("clear").addEventListener("click", clear);
  const options = byId("options");
  options.addEventListener("submit", (event) => event.preventDefault());
  options.addEventListener("change", () => options.reportValidity() && cards.length && lookAgain());
  options.elements.gender_threshold.addEventListener("input", (event) => {
    byId("threshold-shown").textContent = `${Math.round(100 * event.target.value)}%`;
  });
  document.addEventListener("paste", (event) => add(event.clipboardData?.files ?? []));
  listenForDrops();
}

function listenForDrops() {
  let depth = 0;
  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const show = (shown) => {
    byId("veil").hidden = !shown;
  };
  document.addEventListener("dragenter", (event) => {
    if (!hasFiles(event)) return;
    depth += 1;
    show(true);
  });
  document.addEventListener("dragleave", () => {
    depth = Math.max(depth - 1, 0);
    if (!depth) show(false);
  });
  document.addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    depth = 0;
    show(false);
    if (!hasFiles(event)) return;
    event.preventDefault();
    add(event.dataTransfer.files);
  });
}

async function showAbout() {
  byId("curl").textContent = `curl -F file=@family.jpg ${new URL("v1/predict", document.baseURI)}`;
  try {
    const about = await api.about();
    limits = about.limits;
    byId("about").textContent = `It runs ${about.model.name}, version ${about.version}, on ${about.device}.`;
  } catch {
    // with a key, nothing is told before it is given
  }
}

listen();
showAbout();
