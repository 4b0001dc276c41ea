// What is known of one face, beside its picture.

import { ageChart, genderScale } from "./chart.js";
import { ageWords, genderWords, percent } from "./words.js";

export function make(name, className = "", text = "") {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

const CROP = 152; // pixels; twice its size on the screen

// The face itself, cut from a picture that is shown. Null where it can't be.
export function cutFace(picture, record, face) {
  const scale = picture.naturalWidth / record.width;
  const side = Math.max(face.box.width, face.box.height) * 1.5;
  const x = face.box.x + face.box.width / 2 - side / 2;
  const y = face.box.y + face.box.height / 2 - side / 2;
  const canvas = make("canvas", "crop");
  canvas.width = canvas.height = CROP;
  canvas.setAttribute("aria-hidden", "true");
  canvas.getContext("2d").drawImage(picture, x * scale, y * scale, side * scale, side * scale, 0, 0, CROP, CROP);
  return canvas;
}

function facts(face) {
  const list = make("dl", "facts");
  const add = (term, value) => list.append(make("dt", "", term), make("dd", "", value));
  if (face.age) add("Age group", `${face.age.group} ${percent(face.age.group_probability)}`);
  if (face.gender) add("Gender presentation", genderWords(face.gender));
  add("Certainty of the face", percent(face.detection_score));
  return list;
}

// Fills `panel` with one face of a record.
export function showFace(panel, record, index, crop) {
  const face = record.faces[index];
  const top = make("div", crop ? "detail-top" : "detail-top bare");
  if (crop) top.append(crop);
  const words = make("div");
  words.append(make("p", "which", `Face ${index + 1} of ${record.faces.length}`));
  if (face.age) {
    const { years, low, high } = ageWords(face.age);
    const age = make("p", "age", `${years}`);
    age.append(" ", make("small", "", "years"));
    words.append(age, make("p", "quiet", `${low} to ${high}, ${percent(face.age.coverage)} interval`));
  } else if (face.gender) {
    words.append(make("p", "age", face.gender.label));
  }
  top.append(words);
  const parts = [top];
  if (face.age && face.age_distribution) parts.push(ageChart(face.age, face.age_distribution));
  if (face.gender) parts.push(genderScale(face.gender));
  parts.push(facts(face));
  panel.replaceChildren(...parts);
}
