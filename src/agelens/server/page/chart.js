// Small charts as SVG elements, without any library.

import { ageWords, percent } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";

export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const WIDTH = 300;
const HEIGHT = 118;
const FLOOR = 96;
const TOP = 20;
const LEFT = 6;
const RIGHT = WIDTH - 6;

// The distribution of an age: its curve, the interval filled, the estimate marked.
export function ageChart(age, distribution) {
  const { years, low, high } = ageWords(age);
  const x = (year) => LEFT + ((RIGHT - LEFT) * year) / 100;
  const most = Math.max(...distribution, 1e-9);
  const y = (share) => FLOOR - ((FLOOR - TOP) * share) / most;
  const points = distribution.map((share, year) => [x(year), y(share)]);
  const line = points.map(([px, py]) => `${px.toFixed(1)} ${py.toFixed(1)}`).join("L");
  const inside = points.filter((_, year) => year >= age.low - 0.5 && year <= age.high + 0.5);
  const area = (some) =>
    some.length
      ? `M${some[0][0].toFixed(1)} ${FLOOR}L${some.map(([px, py]) => `${px.toFixed(1)} ${py.toFixed(1)}`).join("L")}L${some.at(-1)[0].toFixed(1)} ${FLOOR}Z`
      : "";
  const middle = x(age.years);
  const chart = svg("svg", {
    class: "chart",
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    role: "img",
    "aria-label": `Distribution of the age: ${percent(age.coverage)} lie between ${low} and ${high}, the estimate is ${years}`,
  });
  chart.append(
    svg("path", { class: "area", d: area(points) }),
    svg("path", { class: "inside", d: area(inside) }),
    svg("path", { class: "curve", d: `M${line}` }),
    svg("line", { class: "axis", x1: LEFT, x2: RIGHT, y1: FLOOR, y2: FLOOR }),
    svg("line", { class: "middle", x1: middle, x2: middle, y1: TOP - 4, y2: FLOOR }),
    svg("text", { class: "years", x: Math.min(Math.max(middle, 24), WIDTH - 24), y: TOP - 9, "text-anchor": "middle" }, `${years}`),
  );
  for (const year of [0, 20, 40, 60, 80, 100]) {
    const anchor = year === 0 ? "start" : year === 100 ? "end" : "middle";
    chart.append(svg("text", { x: x(year), y: FLOOR + 15, "text-anchor": anchor }, year === 100 ? "100+" : `${year}`));
  }
  return chart;
}

// Where a gender lies between the two words.
export function genderScale(gender) {
  const box = document.createElement("div");
  box.className = `scale ${gender.label}`;
  const place = 6 + 288 * (1 - gender.female_probability);
  const drawing = svg(
    "svg",
    { viewBox: "0 0 300 12", "aria-hidden": "true" },
    svg("rect", { class: "rail", x: 0, y: 4, width: 300, height: 4, rx: 2 }),
    svg("line", { class: "half", x1: 150, x2: 150, y1: 1, y2: 11 }),
    svg("circle", { class: "knob", cx: place, cy: 6, r: 5.5 }),
  );
  const ends = document.createElement("div");
  ends.className = "ends";
  for (const word of ["female", "male"]) {
    const end = document.createElement("span");
    end.textContent = word;
    ends.append(end);
  }
  box.append(drawing, ends);
  return box;
}
