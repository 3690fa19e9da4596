// Classes and log-likelihood of the drawing, while it grows.
import { post } from "./api.js";
import { byId, element, say } from "./dom.js";

const MOST_BARS = 6;
const LONGEST_TRACE = 200;

const percent = (share) => (share > 0.9995 ? "> 99.9 %" : `${(100 * share).toFixed(1)} %`);
const nats = (value) => value.toLocaleString("en", { maximumFractionDigits: 0 });

export class Live {
  constructor() {
    this.trace = [];
    this.isAsking = false;
    this.next = null;
    this.version = 0;
  }

  /** Ask for the drawing of a project; while an answer is awaited only the newest one waits. */
  ask(project, strokes) {
    if (!project || strokes.length === 0) {
      this.clear();
      return;
    }
    this.next = { project, strokes, version: this.version };
    if (!this.isAsking) this.work();
  }

  clear() {
    this.version += 1;
    this.next = null;
    this.trace = [];
    byId("bars").replaceChildren();
    byId("live-empty").hidden = false;
    byId("log-p").textContent = byId("log-p-class").textContent = "–";
    byId("seen").hidden = true;
    this.paint();
  }

  async work() {
    this.isAsking = true;
    try {
      while (this.next) {
        const { project, strokes, version } = this.next;
        this.next = null;
        const answer = await post(`/projects/${project}/classify`,
          { elements: [{ strokes }], top: MOST_BARS, with_densities: true, with_images: true });
        if (version === this.version) this.show(answer.results[0]);
      }
    } catch (error) {
      say(error.message, true);
    } finally {
      this.isAsking = false;
    }
  }

  show(result) {
    const best = result.classes[0];
    const bars = [
      ...result.classes.map((one) => ({ ...one, kind: one === best ? "best" : "" })),
      { name: "None of these", probability: result.none_of_these, kind: "none" },
    ].map(bar);
    byId("bars").replaceChildren(...bars);
    byId("live-empty").hidden = true;
    byId("log-p").textContent = nats(result.log_density);
    byId("log-p-class").textContent = best ? nats(best.log_density) : "–";
    byId("seen").hidden = false;
    byId("seen-image").src = `data:image/png;base64,${result.image}`;
    this.trace.push([result.log_density, best?.log_density ?? null]);
    this.trace = this.trace.slice(-LONGEST_TRACE);
    this.paint();
  }

  paint() {
    const values = this.trace.flat().filter((value) => value !== null);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const points = (column) => this.trace
      .map((row, index) => [index, row[column]])
      .filter(([, value]) => value !== null)
      .map(([index, value]) => {
        const x = 4 + 292 * index / Math.max(1, this.trace.length - 1);
        const y = 64 - 58 * (value - low) / Math.max(1e-9, high - low);
        return `${x.toFixed(1)},${y.toFixed(1)}`;
      }).join(" ");
    byId("trace-prior").setAttribute("points", points(0));
    byId("trace-class").setAttribute("points", points(1));
  }
}

function bar({ name, probability, kind }) {
  const fill = element("div", { className: "fill" });
  fill.style.width = `${100 * probability}%`;
  return element("li", { className: kind },
    element("span", { className: "name", textContent: name }),
    element("span", { className: "value", textContent: percent(probability) }),
    element("div", { className: "track" }, fill));
}
