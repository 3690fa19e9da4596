// The table of classes: examples added, forgotten, undone and verified.
import { get, newKey, post, remove } from "./api.js";
import { byId, element, guarded, say } from "./dom.js";

const MOST_EXAMPLES = 1000;

export class Classes extends EventTarget {
  constructor() {
    super();
    this.project = null;
    this.classes = [];
    this.contents = new Map(); // of examples that this page has seen, to forget and to undo
    this.done = [];
    byId("undo").addEventListener("click", guarded(() => this.undo()));
    byId("verify").addEventListener("click", guarded(() => this.verify()));
  }

  get path() {
    return `/projects/${this.project.name}`;
  }

  async open(project) {
    this.project = project;
    this.done = [];
    this.contents.clear();
    await this.refresh();
  }

  /** Read classes and examples again, and show them. */
  async refresh(changedClass) {
    const [classes, examples] = await Promise.all([
      get(`${this.path}/classes`), get(`${this.path}/examples?limit=${MOST_EXAMPLES}`)]);
    await Promise.all(examples.filter(({ id, is_kept: isKept }) => isKept && !this.contents.has(id))
      .map(async ({ id }) => this.contents.set(id, await this.fetchImage(id))));
    this.classes = classes;
    byId("classes").replaceChildren(...classes.map((one) => this.row(one,
      examples.filter(({ class_id: id }) => id === one.id))));
    byId("class-names").replaceChildren(...classes.map(({ name }) => element("option", { value: name })));
    byId("classes-empty").hidden = classes.length > 0;
    byId("verify").disabled = classes.length === 0;
    byId("undo").disabled = this.done.length === 0;
    this.dispatchEvent(new CustomEvent("change", { detail: changedClass }));
  }

  async fetchImage(id) {
    const blob = await get(`${this.path}/examples/${id}/image`, { as: "blob" }).catch(() => null);
    if (!blob) return null;
    const bytes = new Uint8Array(await blob.arrayBuffer());
    return btoa(String.fromCharCode(...bytes));
  }

  row(one, examples) {
    const thumbs = examples.slice().reverse().map((example) => {
      const image = this.contents.get(example.id);
      const button = element("button", { className: image ? "thumb" : "thumb blank", title: "Forget this example" });
      button.setAttribute("aria-label", `Forget an example of ${one.name}`);
      button.append(image ? element("img", { src: `data:image/png;base64,${image}`, alt: "" }) : "gone");
      button.addEventListener("click", guarded(() => this.forget([example])));
      return button;
    });
    const given = one.count - examples.length;
    if (given > 0) thumbs.push(element("span", { className: "muted small", textContent: `+ ${given} given` }));
    const all = element("button", { className: "quiet danger", textContent: "Forget" });
    all.setAttribute("aria-label", `Forget the class ${one.name}`);
    all.addEventListener("click", guarded(() => this.forgetClass(one, examples)));
    return element("tr", {},
      element("td", { className: "name", textContent: one.name }),
      element("td", {}, element("div", { className: "thumbs" }, ...thumbs)),
      element("td", { className: "wide" }, element("span", {
        className: "digest", textContent: one.digest.slice(0, 12), title: `SHA-256 of the evidence: ${one.digest}`,
      })),
      element("td", {}, all));
  }

  /** Learn elements as a class. */
  async learn(name, elements) {
    const learned = await this.send(elements.map((one) => ({ class: name, ...one })));
    this.done.push({ kind: "learn", examples: learned });
    await this.refresh(name);
    say(`Learned ${learned.length} example${learned.length > 1 ? "s" : ""} of “${name}”.`);
  }

  /** Send examples, a second time with the same key if the first answer was lost. */
  async send(examples) {
    const headers = { "Idempotency-Key": newKey() };
    const wish = () => post(`${this.path}/examples`, { examples }, { headers });
    const answer = await wish().catch((error) => {
      if (error.message.includes("cannot be reached")) return wish();
      throw error;
    });
    for (const one of answer.examples) this.contents.set(one.id, one.image);
    return answer.examples;
  }

  target({ id }) {
    if (this.project.keep_examples) return { id };
    const image = this.contents.get(id);
    if (!image) throw new Error("This project keeps no examples: draw it again to forget it, or forget its class.");
    return { id, image, prepare: "none" };
  }

  async forget(examples) {
    const answer = await post(`${this.path}/forget`, { examples: examples.map((one) => this.target(one)) });
    this.done.push({ kind: "forget", examples });
    await this.refresh();
    await this.prove(answer);
  }

  async forgetClass(one, examples) {
    const answer = await remove(`${this.path}/classes/${one.id}`);
    if (examples.length === one.count) this.done.push({ kind: "forget", examples });
    await this.refresh();
    await this.prove(answer);
  }

  /** Show that nothing is left, by evidence computed again from the other examples. */
  async prove({ forgotten, erased }) {
    const name = forgotten.at(-1).class;
    const verified = await get(`${this.path}/verify`);
    const left = verified.classes.find((one) => one.name === name);
    const files = erased ? " Its bytes are in no file of the database." : "";
    if (!left) {
      say(`Forgotten: nothing is left of “${name}”.${files}`);
    } else if (left.is_equal === false) {
      say(`The evidence of “${name}” is not that of its examples.`, true);
    } else {
      const proof = left.is_equal
        ? `the evidence of “${name}” is, bit for bit, that of its other examples`
        : `the evidence of “${name}” is without it`;
      say(`Forgotten: ${proof}.${files}`);
    }
  }

  async verify() {
    const { is_equal: isEqual, classes } = await get(`${this.path}/verify`);
    if (isEqual === null) {
      say("This project keeps no examples, so its evidence cannot be computed again.");
    } else if (isEqual) {
      say(`All ${classes.length} classes hold their examples and nothing else, bit for bit.`);
    } else {
      say("The evidence of a class is not that of its examples.", true);
    }
  }

  /** Undo the last learning or forgetting of this page. */
  async undo() {
    const last = this.done.pop();
    if (!last) return;
    if (last.kind === "learn") {
      const answer = await post(`${this.path}/forget`, { examples: last.examples.map((one) => this.target(one)) });
      await this.refresh();
      await this.prove(answer);
      return;
    }
    const again = last.examples
      .map((one) => ({ class: one.class, image: this.contents.get(one.id), prepare: "none" }));
    await this.send(again);
    await this.refresh(last.examples[0].class);
    say("Learned again what was forgotten.");
  }
}
