// The second tab: one photo, and its object from other sides.
import { get, post } from "./api.js";
import { acceptDrops, byId, guarded, inBase64 } from "./dom.js";

const VIEWS = 24;
const ORDER = [8, 4, 2, 1]; // coarse views first, then those between
const DEGREES_PER_PIXEL = 0.6;

export class Turn {
  constructor() {
    this.photo = null;
    this.frames = new Map();
    this.version = 0;
    this.example = 0;
    acceptDrops(byId("photo-sheet"), guarded(([file]) => this.open(file)));
    byId("photo-file").addEventListener("change", guarded((event) => this.open(event.target.files[0])));
    byId("photo-invert").addEventListener("change", guarded(() => this.draw()));
    byId("photo-example").addEventListener("click", guarded(() => this.openExample()));
    byId("turn-scale").addEventListener("input", () => {
      byId("turn-scale-value").textContent = Number(byId("turn-scale").value).toFixed(2);
    });
    byId("turn-scale").addEventListener("change", guarded(() => this.draw()));
    byId("angle").addEventListener("input", () => this.show());
    this.dragging();
  }

  dragging() {
    const stage = byId("stage");
    let from = null;
    stage.addEventListener("pointerdown", (event) => {
      stage.setPointerCapture(event.pointerId);
      from = { x: event.clientX, angle: Number(byId("angle").value) };
    });
    stage.addEventListener("pointermove", (event) => {
      if (!from || this.frames.size === 0) return;
      const angle = from.angle + (event.clientX - from.x) * DEGREES_PER_PIXEL;
      byId("angle").value = ((angle + 540) % 360 + 360) % 360 - 180;
      this.show();
    });
    for (const kind of ["pointerup", "pointercancel"]) {
      stage.addEventListener(kind, () => { from = null; });
    }
  }

  async openExample() {
    const blob = await get(`/views/example?number=${this.example}`, { as: "blob" });
    this.example += 1;
    byId("photo-invert").checked = false;
    await this.open(blob);
  }

  async open(file) {
    if (!file) return;
    this.photo = await inBase64(file);
    byId("photo").src = URL.createObjectURL(file);
    byId("photo").hidden = false;
    byId("photo-hint").hidden = true;
    await this.draw();
  }

  /** Draw all views, a few at a time so that the first can be turned at once. */
  async draw() {
    if (!this.photo) return;
    this.version += 1;
    const version = this.version;
    this.frames.clear();
    const progress = byId("turn-progress");
    progress.value = 0;
    progress.hidden = false;
    byId("stage").setAttribute("aria-busy", "true");
    byId("turn-hint").hidden = true;
    try {
      for (const step of ORDER) {
        const numbers = [...Array(VIEWS).keys()]
          .filter((number) => number % step === 0 && !this.frames.has(number));
        const answer = await post("/views", {
          image: this.photo,
          azimuths: numbers.map((number) => number * 360 / VIEWS),
          latent_scale: Number(byId("turn-scale").value),
          invert: byId("photo-invert").checked,
        });
        if (version !== this.version) return;
        numbers.forEach((number, index) => this.frames.set(number, answer.images[index]));
        byId("angle").disabled = false;
        progress.value = this.frames.size;
        this.show();
      }
    } finally {
      if (version === this.version) {
        progress.hidden = true;
        byId("stage").setAttribute("aria-busy", "false");
      }
    }
  }

  /** Show the view at the chosen angle: two neighbours, laid over each other. */
  show() {
    const angle = Number(byId("angle").value);
    byId("angle-value").textContent = `${Math.round(angle)}°`;
    const place = ((angle + 360) % 360) * VIEWS / 360;
    const known = [...this.frames.keys()].sort((a, b) => a - b);
    if (known.length === 0) return;
    const below = known.filter((number) => number <= place).at(-1) ?? known.at(-1);
    const above = known.find((number) => number > place) ?? known[0];
    const gap = ((above - below + VIEWS) % VIEWS) || VIEWS;
    const share = ((place - below + VIEWS) % VIEWS) / gap;
    for (const [id, number, opacity] of [["view", below, 1], ["view-next", above, share]]) {
      const image = byId(id);
      image.src = `data:image/png;base64,${this.frames.get(number)}`;
      image.hidden = false;
      image.style.opacity = opacity;
    }
    byId("view").alt = `The object, turned by ${Math.round(angle)} degrees`;
  }
}
