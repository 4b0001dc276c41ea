// How results and errors are said to people.

const SENTENCES = {
  empty_file: "This file is empty. Copy or download it again.",
  unsupported_format: "This is no picture that can be read here. Use JPEG, PNG, WebP, AVIF, HEIC, TIFF, BMP or GIF.",
  missing_extra: "This server can’t read HEIC. Save the photo as JPEG first.",
  truncated_image: "This file ends in the middle of the picture. Copy or download it again.",
  corrupt_image: "This file is damaged, so the picture can’t be read. Copy or download it again.",
  image_too_small: "This picture is too small to hold a face.",
  overloaded: "The server is busy. Try again in a moment.",
  time_limit: "This picture took too long. Try a smaller one.",
  slow_upload: "The picture took too long to arrive. Try again, or a smaller one.",
  stopping: "The server is restarting. Try again in a moment.",
};

const megabytes = (count) => `${Math.round(count / 1048576)} MB`;

// One sentence about what went wrong; `limits` are those of /v1/models.
export function explain(code, detail, limits) {
  if (code === "too_many_bytes" || code === "body_too_large") {
    return `This file is too large${limits ? `; the limit is ${megabytes(limits.max_bytes)}` : ""}. Save a smaller copy.`;
  }
  if (code === "too_many_pixels") {
    const most = limits ? `; the limit is ${Math.round(limits.max_pixels / 1e6)} megapixels` : "";
    return `This picture is too large${most}. Save a smaller copy.`;
  }
  if (SENTENCES[code]) return SENTENCES[code];
  return detail ? `${detail[0].toUpperCase()}${detail.slice(1)}${/[.!?]$/.test(detail) ? "" : "."}` : "Something went wrong.";
}

// As agelens.wording: the nearest whole number, upwards from the middle, of what the record gives; only what it gives
// as 1 is 100%.
const whole = (value) => Math.floor((Math.round(100 * value) + 50) / 100);

export function percent(share) {
  const parts = Math.round(10_000 * share);
  return `${parts < 10_000 ? Math.min(Math.floor((parts + 50) / 100), 99) : 100}%`;
}

export const ageWords = (age) => ({ years: whole(age.years), low: whole(age.low), high: whole(age.high) });

export const genderWords = (gender) =>
  gender.label === "unknown" ? "unknown" : `${gender.label} ${percent(gender.probability)}`;

// What a screen reader says of a face.
export function faceWords(face, number) {
  const parts = [`Face ${number}`];
  if (face.age) {
    const { years, low, high } = ageWords(face.age);
    parts.push(`looks about ${years}, between ${low} and ${high}`);
  }
  if (face.gender) parts.push(genderWords(face.gender));
  return parts.join(", ");
}

// What stands at its box: short where there is little room.
export function tagWords(face, short) {
  const parts = [];
  if (face.age) {
    const { years, low, high } = ageWords(face.age);
    parts.push(short ? `${years}` : `${years} (${low}–${high})`);
  }
  if (face.gender && !(short && face.age)) parts.push(face.gender.label);
  return parts.join(" · ");
}

export const count = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

export const facesFound = (record) => (record.faces.length ? count(record.faces.length, "face") : "no face found");
