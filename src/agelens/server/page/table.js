// Records as rows: for the table of the page, and as the CSV that `agelens predict -o faces.csv` writes.

import { ageWords, genderWords, percent } from "./words.js";

const LANDMARKS = [0, 1, 2, 3, 4].flatMap((number) => [`landmarks_${number}_x`, `landmarks_${number}_y`]);

export const COLUMNS = [
  ...["schema", "source", "width", "height", "face", "box_x", "box_y", "box_width", "box_height", "detection_score"],
  ...LANDMARKS,
  ...["age_years", "age_low", "age_high", "age_coverage", "age_group", "age_group_probability"],
  ...["gender_label", "gender_probability", "gender_female_probability"],
  ...["model_name", "model_sha256", "error_code", "error_message"],
];

const joined = (name, values) =>
  Object.fromEntries(Object.entries(values ?? {}).map(([key, value]) => [`${name}_${key}`, value]));

export function toRows(record) {
  const { schema, source, width, height, faces, model, error } = record;
  const shared = { schema, source, width, height, ...joined("model", model), ...joined("error", error) };
  if (!faces.length) return [shared];
  return faces.map((face, index) => ({
    ...shared,
    face: index,
    detection_score: face.detection_score,
    ...joined("box", face.box),
    ...joined("age", face.age),
    ...joined("gender", face.gender),
    ...Object.fromEntries(
      face.landmarks.flatMap(([x, y], number) => [
        [`landmarks_${number}_x`, x],
        [`landmarks_${number}_y`, y],
      ]),
    ),
  }));
}

const cell = (value) => {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};

export function toCsv(records) {
  const rows = records.flatMap(toRows).map((row) => COLUMNS.map((name) => cell(row[name])).join(","));
  return `${[COLUMNS.join(","), ...rows].join("\n")}\n`;
}

// Fills the body of the page's table.
export function fillTable(body, records) {
  body.replaceChildren(...records.flatMap(tableRows));
}

function tableRows(record) {
  if (!record.faces.length) {
    const words = record.error ? "can’t be read" : "no face found";
    return [makeRow(record.source, ["", words, "", "", ""], "no")];
  }
  return record.faces.map((face, index) => {
    const age = face.age ? ageWords(face.age) : null;
    return makeRow(record.source, [
      `${index + 1}`,
      age ? `${age.years}` : "–",
      age ? `${age.low}–${age.high}` : "–",
      face.age ? `${face.age.group} ${percent(face.age.group_probability)}` : "–",
      face.gender ? genderWords(face.gender) : "–",
    ]);
  });
}

function makeRow(source, cells, kind = "") {
  const row = document.createElement("tr");
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = source;
  head.title = source;
  row.append(head);
  for (const text of cells) {
    const element = document.createElement("td");
    element.textContent = text;
    element.className = kind;
    row.append(element);
  }
  return row;
}
