// Requests to the server.

const KEEPALIVE = 60_000; // bytes; browsers refuse more than 64 KiB

/** What the server answered instead of a result; status 0: it did not answer. */
class ServerError extends Error {
  constructor(status, message, body = {}) {
    super(message);
    this.status = status;
    this.body = body;
  }

  /** Whether the same request may succeed later. */
  get temporary() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/**
 * Send a request and return the JSON of the answer. While the server is busy (429, 503 with Retry-After), wait
 * and try again.
 */
export async function request(path, { method = "GET", json, body, signal } = {}) {
  const kind = json === undefined ? body?.type || "application/octet-stream" : "application/json";
  const content = json === undefined ? body : JSON.stringify(json);
  const keepalive = json !== undefined && content.length < KEEPALIVE; // finish it when the page is closed
  for (let attempt = 0; ; attempt += 1) {
    let answer;
    try {
      answer = await fetch(path, { method, headers: { "Content-Type": kind }, body: content, signal, keepalive });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ServerError(0, "The server does not answer.");
    }
    const wait = Number(answer.headers.get("Retry-After"));
    if (wait && attempt < 30 && (answer.status === 429 || answer.status === 503)) {
      await pause(Math.min(wait, 30) * 1000, signal);
      continue;
    }
    const found = await answer.json().catch(() => ({}));
    if (answer.ok) return found;
    throw new ServerError(answer.status, found.error ?? `The server answered ${answer.status}.`, found);
  }
}

/** Return the address of something that belongs to a photo. */
export function photoPath(photo, what, query = {}) {
  const text = new URLSearchParams(query).toString();
  return `/api/photos/${encodeURIComponent(photo)}/${what}${text && "?"}${text}`;
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
