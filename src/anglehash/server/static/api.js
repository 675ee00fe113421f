// Talking to the service: its key, its errors, and coming again when it is busy.

const BUSY_TRIES = 4;
let key = sessionStorage.getItem("anglehash-key") ?? "";
let pending = null;
let askForKey = async () => "";

/** An answer that is an error, with what it says of itself. */
export class Problem extends Error {
  constructor(status, reason, detail) {
    super(detail);
    this.status = status;
    this.reason = reason;
  }
}

/** Whether requests carry a key: then pictures must be fetched, since a plain <img> sends none. */
export const hasKey = () => key !== "";

/** Set what asks the person for a key: a function of the reason that gives a promise of it. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

/** The JSON of an answer. @throws {Problem} */
export async function getJson(path, signal) {
  return (await call(path, { signal })).json();
}

/** The JSON that JSON is answered with. @throws {Problem} */
export async function postJson(path, value, signal) {
  const headers = { "Content-Type": "application/json" };
  return (await call(path, { method: "POST", headers, body: JSON.stringify(value), signal })).json();
}

/** The JSON that a form is answered with. @throws {Problem} */
export async function postForm(path, form, signal) {
  return (await call(path, { method: "POST", body: form, signal })).json();
}

/** What a removal is answered with. @throws {Problem} */
export async function deleteJson(path) {
  return (await call(path, { method: "DELETE" })).json();
}

/** The bytes of an answer. @throws {Problem} */
export async function getBlob(path, signal) {
  return (await call(path, { signal })).blob();
}

async function call(path, options) {
  const url = new URL(path, document.baseURI);
  if (url.origin !== location.origin) throw new Problem(0, "elsewhere", "the service named an address elsewhere");
  for (let tries = 1; ; tries += 1) {
    const used = key;
    const response = await send(url, options, used);
    if (response.ok) return response;
    if (response.status === 401) {
      await renewKey(used);
    } else if ([429, 503].includes(response.status) && response.headers.has("Retry-After") && tries < BUSY_TRIES) {
      await pause(Math.min(10, Number(response.headers.get("Retry-After")) || 1) * 1000, options.signal);
    } else {
      throw await problem(response);
    }
  }
}

async function send(url, options, bearer) {
  const headers = { ...options.headers, ...(bearer && { Authorization: `Bearer ${bearer}` }) };
  try {
    return await fetch(url, { ...options, headers, redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "unreachable", "The service does not answer. Is it still running?");
  }
}

async function renewKey(used) {
  if (key !== used) return; // another request asked meanwhile
  pending ??= askForKey(used ? "This key is not known here. Try another one." : "");
  key = (await pending).trim();
  pending = null;
  sessionStorage.setItem("anglehash-key", key);
}

async function problem(response) {
  try {
    const { detail, title, reason } = await response.json();
    return new Problem(response.status, String(reason ?? ""), String(detail || title || response.status));
  } catch {
    return new Problem(response.status, "", `The service answered with status ${response.status}.`);
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("given up", "AbortError"));
    });
  });
}
