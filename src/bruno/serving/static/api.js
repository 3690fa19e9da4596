// Requests to the server.
import { byId } from "./dom.js";

const BASE = "/api/v1";
let token = sessionStorage.getItem("bruno-token");

/** Ask for the token in a dialog; resolves when one was entered. */
function askForToken() {
  const dialog = byId("login");
  return new Promise((resolve) => {
    byId("login-form").onsubmit = (event) => {
      event.preventDefault();
      token = byId("token").value;
      sessionStorage.setItem("bruno-token", token);
      dialog.close();
      resolve();
    };
    if (!dialog.open) dialog.showModal();
  });
}

/** Send a request and return the answer; its refusal is thrown with the server's reason. */
export async function send(method, path, { body, headers = {}, as = "json", ...options } = {}) {
  const all = { ...headers };
  if (token) all.Authorization = `Bearer ${token}`;
  let content = body;
  if (body !== undefined && !(body instanceof Blob)) {
    all["Content-Type"] = "application/json";
    content = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(BASE + path, { method, headers: all, body: content, ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server cannot be reached.");
  }
  if (answer.status === 401) {
    await askForToken();
    return send(method, path, { body, headers, as, ...options });
  }
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    throw new Error(problem.detail ?? `The server answered ${answer.status}.`);
  }
  if (answer.status === 204) return null;
  return as === "blob" ? answer.blob() : answer.json();
}

export const get = (path, options) => send("GET", path, options);
export const post = (path, body, options) => send("POST", path, { body, ...options });
export const remove = (path) => send("DELETE", path);

/** Return a new idempotency key: a request that is sent again with it is not done twice. */
export const newKey = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
  byte.toString(16).padStart(2, "0")).join("");
