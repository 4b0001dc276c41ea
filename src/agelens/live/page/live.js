// The newest frame to the program, what it finds over the picture. One frame is under way at a time, so nothing queues.

const SIDE = 960; // pixels of the longer side that are sent: more shows the detector nothing new
const COLOURS = { female: "#ffb84d", male: "#6fc6ff", unknown: "#e2e4e8", plain: "#70e8be" };
const PATIENCE = 15000;

const $ = (id) => document.getElementById(id);
const video = $("video");
let picture = $("picture");
const overlay = $("overlay");
const page = crypto.getRandomValues(new Uint32Array(4)).join("-");
const latencies = []; // milliseconds from the grabbed frame to its drawn label, the latest thousand
window.agelens = { latencies, frames: 0, last: null };

const settings = await (await fetch("settings")).json();
if (settings.recorded) $("kept").textContent = `Recorded in ${settings.recorded}.`;
if (settings.camera) watchMachine();
else startBrowser();

async function startBrowser() {
  $("start").hidden = true;
  try {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("This browser gives no camera here: open the page as http://localhost, for example through ssh -L.");
    }
    const wanted = { width: { ideal: 1280 }, height: { ideal: 720 } };
    const stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
    stream.getVideoTracks()[0].addEventListener("ended", () => askAgain("The camera went away."));
    video.srcObject = stream;
    video.hidden = false;
    await video.play();
  } catch (error) {
    askAgain(await explain(error));
    return;
  }
  tellTrouble("");
  watchBrowser(video.srcObject);
}

async function explain(error) {
  if (error.name === "NotAllowedError") return "The camera may not be used. Allow it in the browser’s settings for this page.";
  if (error.name === "NotReadableError") return "Another program is using the camera.";
  if (error.name === "NotFoundError") {
    const devices = await navigator.mediaDevices.enumerateDevices();
    const cameras = devices.filter((device) => device.kind === "videoinput");
    return `There is no such camera; the browser knows ${cameras.length ? cameras.map((c) => c.label || "one").join(", ") : "none"}.`;
  }
  return error.message;
}

function askAgain(sentence) {
  tellTrouble(sentence);
  $("start").hidden = false;
}
$("start").addEventListener("click", startBrowser);
navigator.mediaDevices?.addEventListener("devicechange", () => { if (!$("start").hidden) startBrowser(); });

async function watchBrowser(stream) {
  const canvas = document.createElement("canvas");
  while (video.srcObject === stream && stream.active) {
    if (document.hidden || !video.videoWidth) {
      await pause(200);
      continue;
    }
    const grabbed = performance.now();
    const scale = Math.min(1, SIDE / Math.max(video.videoWidth, video.videoHeight));
    canvas.width = Math.round(video.videoWidth * scale);
    canvas.height = Math.round(video.videoHeight * scale);
    canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
    const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.85));
    try {
      const answer = await fetch(`look?page=${page}`, { method: "POST", body: blob, signal: AbortSignal.timeout(PATIENCE) });
      const seen = await answer.json();
      if (!answer.ok) throw new Error(seen.detail);
      show(seen, grabbed);
      tellTrouble("");
    } catch (error) {
      clear();
      tellTrouble(`${sentence(error)} Trying again.`);
      await pause(1000);
    }
  }
}

async function watchMachine() {
  let after = 0;
  let before = "";
  picture.hidden = false;
  for (;;) {
    try {
      const asked = performance.now();
      const answer = await fetch(`next?after=${after}`, { signal: AbortSignal.timeout(PATIENCE) });
      if (!answer.ok) throw new Error((await answer.json()).detail);
      const seen = JSON.parse(answer.headers.get("X-Agelens-Seen"));
      const address = URL.createObjectURL(await answer.blob());
      const next = picture.cloneNode();
      next.src = address;
      await next.decode();
      picture.replaceWith(next); // decoded: the page never shows an empty picture between two frames
      picture = next;
      if (before) URL.revokeObjectURL(before);
      before = address;
      after = seen.number;
      show(seen, asked);
      tellTrouble("");
    } catch (error) {
      clear();
      tellTrouble(`${sentence(error)} Trying again.`);
      await pause(500);
    }
  }
}

function sentence(error) {
  const words = error.name === "TypeError" ? "The program doesn’t answer" : error.message;
  return /[.!?]$/.test(words) ? words : `${words}.`;
}

function show(seen, since) {
  draw(seen);
  $("notice").hidden = seen.faces.length > 0;
  $("people").replaceChildren(...seen.faces.map((face) => {
    const item = document.createElement("li");
    item.textContent = (face.track ? `#${face.track}: ` : "") + words(face);
    return item;
  }));
  const spent = performance.now() - since;
  latencies.push(spent);
  if (latencies.length > 1000) latencies.shift();
  window.agelens.frames += 1;
  window.agelens.last = seen;
  $("status").textContent = "Watching";
  $("speed").textContent = `${seen.rate.toFixed(0)} frames a second, ${spent.toFixed(0)} ms from frame to label.`;
}

function words(face) {
  const parts = [];
  if (face.age) parts.push(`${Math.round(face.age.years)} (${Math.round(face.age.low)}–${Math.round(face.age.high)})`);
  if (face.gender) {
    const percent = face.gender.probability < 1 ? Math.min(Math.round(face.gender.probability * 100), 99) : 100;
    parts.push(face.gender.label === "unknown" ? "unknown" : `${face.gender.label} ${percent}%`);
  }
  return parts.join("  ");
}

function draw(seen) {
  const ratio = window.devicePixelRatio || 1;
  overlay.width = overlay.clientWidth * ratio;
  overlay.height = overlay.clientHeight * ratio;
  const pen = overlay.getContext("2d");
  const scale = overlay.width / seen.width;
  const size = Math.max(13 * ratio, overlay.width / 55);
  pen.font = `600 ${size}px system-ui, sans-serif`;
  pen.textBaseline = "middle";
  for (const face of seen.faces) {
    const colour = COLOURS[face.gender?.label ?? "plain"];
    const [x, y, w, h] = [face.box.x, face.box.y, face.box.width, face.box.height].map((value) => value * scale);
    pen.lineWidth = Math.max(2 * ratio, overlay.width / 400);
    pen.strokeStyle = colour;
    pen.strokeRect(x, y, w, h);
    const text = words(face);
    const width = pen.measureText(text).width + size;
    const left = Math.max(0, Math.min(x, overlay.width - width));
    const below = y + h + 1.6 * size <= overlay.height;
    const top = below ? y + h + 0.1 * size : Math.max(0, y - 1.6 * size);
    pen.fillStyle = colour;
    pen.fillRect(left, top, width, 1.5 * size);
    pen.fillStyle = "#101216";
    pen.fillText(text, left + size / 2, top + 0.78 * size);
  }
}

function clear() {
  overlay.getContext("2d").clearRect(0, 0, overlay.width, overlay.height);
  $("people").replaceChildren();
  $("notice").hidden = true;
}

function tellTrouble(text) {
  $("trouble").hidden = !text;
  $("trouble").textContent = text;
  if (text) $("status").textContent = "Waiting";
}

function pause(milliseconds) {
  return new Promise((done) => setTimeout(done, milliseconds));
}
