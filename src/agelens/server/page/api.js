// Asks the server. Addresses are relative, so that the page works behind a proxy under any path.

export class Problem extends Error {
  constructor(status, code, detail, retryAfter = 0) {
    super(detail);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

const MOST_RETRIES = 8;

export class Api {
  // `askForKey()` gives the key that the server asks for.
  constructor(askForKey) {
    this.askForKey = askForKey;
    this.key = "";
  }

  about() {
    return this.#send("GET", "v1/models", null, {}).then((request) => JSON.parse(request.response));
  }

  // The record of one picture. `onProgress(share)` is told how much is sent; 1 means that the server has it all.
  async predict(file, query, { onProgress, signal } = {}) {
    const request = await this.#post("v1/predict", file, query, "text", onProgress, signal);
    return JSON.parse(request.response).records[0];
  }

  // The picture with boxes and labels, as a Blob.
  async annotate(file, query, { signal } = {}) {
    const request = await this.#post("v1/annotate", file, query, "blob", null, signal);
    return request.response;
  }

  async #post(path, file, query, kind, onProgress, signal) {
    const form = new FormData();
    form.append("file", file, file.name || "picture");
    const address = `${path}?${new URLSearchParams(query)}`;
    for (let attempt = 0; ; attempt += 1) {
      try {
        return await this.#send("POST", address, form, { kind, onProgress, signal });
      } catch (problem) {
        if (problem.status === 401) {
          this.key = await this.askForKey();
        } else if ((problem.status === 429 || problem.code === "stopping") && attempt < MOST_RETRIES) {
          await new Promise((done) => setTimeout(done, 1000 * Math.max(problem.retryAfter, 1)));
        } else {
          throw problem;
        }
      }
    }
  }

  #send(method, address, body, { kind = "text", onProgress, signal }) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest(); // fetch doesn't tell how much was sent
      request.open(method, address);
      request.responseType = kind;
      if (this.key) request.setRequestHeader("Authorization", `Bearer ${this.key}`);
      if (onProgress) request.upload.onprogress = (event) => onProgress(event.loaded / Math.max(event.total, 1));
      request.onload = () => (request.status === 200 ? resolve(request) : reject(readProblem(request)));
      request.onerror = () => reject(new Problem(0, "unreachable", "The server can’t be reached. Is it still running?"));
      request.onabort = () => reject(new Problem(0, "aborted", ""));
      signal?.addEventListener("abort", () => request.abort());
      request.send(body);
    }).catch(async (problem) => {
      throw await problem;
    });
  }
}

async function readProblem(request) {
  const text = request.responseType === "blob" ? await request.response.text() : request.response;
  const retryAfter = Number(request.getResponseHeader("Retry-After")) || 0;
  try {
    const { code, detail } = JSON.parse(text);
    return new Problem(request.status, code, detail, retryAfter);
  } catch {
    return new Problem(request.status, "error", `The server answered with status ${request.status}.`, retryAfter);
  }
}
