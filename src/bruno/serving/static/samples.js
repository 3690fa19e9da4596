// Samples of a class, with a temperature.
import { post } from "./api.js";
import { byId, element, guarded } from "./dom.js";

const COUNT = 12;

export class Samples {
  constructor(draws) {
    this.draws = draws;
    this.project = null;
    this.seed = 0;
    this.isAsking = false;
    this.isStale = false;
    byId("resample").addEventListener("click", () => {
      this.seed += 1;
      this.draw();
    });
    byId("scale").addEventListener("input", () => {
      byId("scale-value").textContent = Number(byId("scale").value).toFixed(2);
      this.draw();
    });
    byId("sample-class").addEventListener("change", () => this.draw());
  }

  /** Offer the classes of a project; draw again if the chosen one changed. */
  offer(project, classes, preferred) {
    const select = byId("sample-class");
    const chosen = preferred ?? select.value;
    this.project = project;
    select.replaceChildren(...classes.map(({ name }) => element("option", { value: name, textContent: name })));
    if (classes.some(({ name }) => name === chosen)) select.value = chosen;
    byId("resample").disabled = classes.length === 0 || !this.draws;
    byId("samples-empty").hidden = classes.length > 0;
    if (!this.draws) {
      byId("samples-empty").hidden = false;
      byId("samples-empty").textContent = "This model classifies; its samples are not recognisable.";
    } else if (classes.length === 0) {
      byId("samples").replaceChildren();
    } else {
      this.draw();
    }
  }

  /** Draw; while samples are awaited only the newest wish waits. */
  async draw() {
    if (!this.draws || !byId("sample-class").value) return;
    this.isStale = true;
    if (this.isAsking) return;
    this.isAsking = true;
    byId("samples").setAttribute("aria-busy", "true"); // those of before fade
    await guarded(async () => {
      while (this.isStale) {
        this.isStale = false;
        const name = byId("sample-class").value;
        if (!name) break;
        const answer = await post(`/projects/${this.project}/sample`, {
          class: name, count: COUNT, latent_scale: Number(byId("scale").value), seed: this.seed,
        });
        byId("samples").replaceChildren(...answer.images.map((data, index) => element("img", {
          src: `data:image/png;base64,${data}`, alt: `Sample ${index + 1} of ${name}`,
        })));
      }
    })();
    this.isAsking = false;
    byId("samples").setAttribute("aria-busy", "false");
  }
}
