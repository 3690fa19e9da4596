// Small helpers for elements and the status line.
export const byId = (id) => document.getElementById(id);

/** Return a new element with properties and children. */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

let timer = 0;

/** Show a sentence at the foot of the page; errors stay longer. */
export function say(text, isError = false) {
  const status = byId("status");
  status.textContent = text;
  status.classList.toggle("error", isError);
  clearTimeout(timer);
  timer = setTimeout(() => { status.textContent = ""; }, isError ? 9000 : 6000);
}

/** Return a function that runs work and shows what it throws. */
export const guarded = (work) => async (...given) => {
  try {
    return await work(...given);
  } catch (error) {
    say(error.message, true);
    return undefined;
  }
};

/** Return the content of a file in base64. */
export function inBase64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split("base64,")[1] ?? "");
    reader.onerror = () => reject(new Error(`${file.name} cannot be read`));
    reader.readAsDataURL(file);
  });
}

/** Let files be dropped on an element. */
export function acceptDrops(target, receive) {
  for (const kind of ["dragenter", "dragover"]) {
    target.addEventListener(kind, (event) => {
      event.preventDefault();
      target.classList.add("over");
    });
  }
  target.addEventListener("dragleave", () => target.classList.remove("over"));
  target.addEventListener("drop", (event) => {
    event.preventDefault();
    target.classList.remove("over");
    receive([...event.dataTransfer.files]);
  });
}
