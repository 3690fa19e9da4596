// Puts the parts of the page together.
import { get, newKey, post, remove, send } from "./api.js";
import { Classes } from "./classes.js";
import { acceptDrops, byId, element, guarded, inBase64, say } from "./dom.js";
import { Live } from "./live.js";
import { Pad } from "./pad.js";
import { Samples } from "./samples.js";
import { Turn } from "./turn.js";

const FIRST_PROJECT = "drawings";
const CHOSEN = "bruno-project";

const pad = new Pad(byId("pad"));
const live = new Live();
const classes = new Classes();
let samples;
let model;

const askLive = () => live.ask(classes.project?.name, pad.points);

function followPad() {
  pad.addEventListener("change", () => {
    byId("pad-undo").disabled = byId("pad-clear").disabled = byId("add").disabled = pad.isEmpty;
    askLive();
  });
  byId("pad-undo").addEventListener("click", () => pad.undo());
  byId("pad-clear").addEventListener("click", () => pad.clear());
  byId("learn").addEventListener("submit", guarded(async (event) => {
    event.preventDefault();
    const name = byId("class-name").value.trim();
    if (!name || pad.isEmpty) return;
    const strokes = pad.points;
    pad.clear(); // at once, for the next drawing may begin before the answer is there
    try {
      await classes.learn(name, [{ strokes }]);
    } catch (error) {
      pad.restore(strokes);
      throw error;
    }
  }));
}

/** Learn dropped pictures as the class that is named, or one for each file's name. */
async function takeFiles(files) {
  const images = files.filter((file) => file.type.startsWith("image/"));
  if (images.length === 0) throw new Error("These are no pictures.");
  const typed = byId("class-name").value.trim();
  const byClass = new Map();
  for (const file of images) {
    const name = typed || file.name.replace(/[-_ ]?\d*\.[^.]*$/, "") || "picture";
    byClass.set(name, [...(byClass.get(name) ?? []), { image: await inBase64(file) }]);
  }
  for (const [name, elements] of byClass) await classes.learn(name, elements);
}

function followTabs() {
  const tabs = [byId("tab-draw"), byId("tab-turn")];
  const choose = (chosen) => {
    for (const tab of tabs) {
      tab.setAttribute("aria-selected", String(tab === chosen));
      tab.tabIndex = tab === chosen ? 0 : -1;
      byId(tab.getAttribute("aria-controls")).hidden = tab !== chosen;
    }
  };
  for (const tab of tabs) {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
      const other = tabs.find((one) => one !== tab);
      choose(other);
      other.focus();
    });
  }
}

function followTheme() {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const show = () => {
    byId("theme").textContent = isDark() ? "☀" : "☾";
    pad.paint();
  };
  byId("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    localStorage.setItem("bruno-theme", root.dataset.theme);
    show();
  });
  dark.addEventListener("change", show);
  show();
}

/** Read the projects and open one: the named, the last, or the first. */
async function openProject(wanted) {
  let projects = await get("/projects");
  if (projects.length === 0) {
    await post("/projects", { name: FIRST_PROJECT });
    projects = await get("/projects");
  }
  const usable = projects.filter((one) => one.is_servable);
  const name = wanted ?? localStorage.getItem(CHOSEN);
  let project = usable.find((one) => one.name === name) ?? usable[0];
  if (!project) { // all are of other models
    project = await post("/projects", { name: `${FIRST_PROJECT}-${newKey().slice(0, 4)}` });
    projects.push(project);
    usable.push(project);
  }
  byId("project").replaceChildren(...projects.map((one) => element("option", {
    value: one.name,
    textContent: one.is_servable ? one.name : `${one.name} (of ${one.model})`,
    disabled: !one.is_servable,
  })));
  byId("project").value = project.name;
  localStorage.setItem(CHOSEN, project.name);
  await classes.open(project);
  askLive();
}

function followProjects() {
  const dialog = byId("manage");
  byId("project").addEventListener("change", guarded((event) => openProject(event.target.value)));
  byId("project-menu").addEventListener("click", () => dialog.showModal());
  byId("manage-close").addEventListener("click", () => dialog.close());
  byId("new-project").addEventListener("submit", guarded(async (event) => {
    event.preventDefault();
    const name = byId("new-name").value;
    await post("/projects", { name, keep_examples: byId("new-keeps").checked });
    byId("new-name").value = "";
    dialog.close();
    await openProject(name);
  }));
  byId("export").addEventListener("click", guarded(async () => {
    const { name } = classes.project;
    const blob = await get(`/projects/${name}/export`, { as: "blob" });
    const link = element("a", { href: URL.createObjectURL(blob), download: `${name}.bruno-project` });
    link.click();
    URL.revokeObjectURL(link.href);
  }));
  byId("import").addEventListener("change", guarded(async (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (!file) return;
    const stem = file.name.split(".")[0].toLowerCase().replace(/[^a-z0-9_-]+/g, "-").replace(/^[^a-z0-9]+/, "");
    const name = `${(stem || "imported").slice(0, 56)}-${newKey().slice(0, 4)}`;
    await send("POST", `/projects/${name}/import`, { body: file });
    dialog.close();
    await openProject(name);
    say(`Imported as “${name}”; every example and sum in it was checked.`);
  }));
  byId("delete-project").addEventListener("click", guarded(async () => {
    const { name } = classes.project;
    if (!confirm(`Delete “${name}” with all its classes?`)) return;
    await remove(`/projects/${name}`);
    dialog.close();
    await openProject();
    say(`“${name}” is deleted.`);
  }));
}

const start = guarded(async () => {
  followTabs();
  followTheme();
  model = await get("/model");
  byId("tab-turn").hidden = !model.views;
  if (model.kind !== "image") {
    byId("panel-draw").querySelector(".pad").hidden = true;
    say("This server's model takes vectors: examples are added by the API.");
  }
  samples = new Samples(model.draws && model.kind === "image");
  classes.addEventListener("change", (event) => {
    samples.offer(classes.project.name, classes.classes, event.detail);
    askLive();
  });
  followPad();
  followProjects();
  acceptDrops(byId("sheet"), guarded(takeFiles));
  byId("files").addEventListener("change", guarded(async (event) => {
    const files = [...event.target.files];
    event.target.value = "";
    await takeFiles(files);
  }));
  new Turn();
  await openProject();
  document.body.dataset.ready = "yes";
});

start();
