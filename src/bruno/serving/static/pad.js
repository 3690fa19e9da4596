// The sheet: strokes by mouse, finger, pen or keyboard.
import { byId } from "./dom.js";

const STEP = 14;
const WIDTH = 16;

export class Pad extends EventTarget {
  constructor(canvas) {
    super();
    this.canvas = canvas;
    this.strokes = [];
    this.drawing = null;
    this.cursor = { x: canvas.width / 2, y: canvas.height / 2, down: false, shown: false };
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const kind of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(kind, (event) => this.end(event));
    }
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => {
      this.cursor.down = false;
      this.cursor.shown = false;
      this.paint();
    });
    this.paint();
  }

  /** Points of all strokes, rounded; nothing if the sheet is empty. */
  get points() {
    return this.strokes
      .map((stroke) => stroke.map(([x, y]) => [Math.round(x * 10) / 10, Math.round(y * 10) / 10]));
  }

  get isEmpty() {
    return this.strokes.length === 0;
  }

  begin(event) {
    if (event.button > 0 || this.drawing !== null) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.drawing = event.pointerId;
    this.cursor.shown = false;
    this.strokes.push([this.place(event)]);
    this.changed();
  }

  move(event) {
    if (event.pointerId !== this.drawing) return;
    const stroke = this.strokes.at(-1);
    // A pen reports more points than there are events.
    for (const one of event.getCoalescedEvents?.() ?? [event]) stroke.push(this.place(one));
    stroke.push(this.place(event));
    this.changed();
  }

  end(event) {
    if (event.pointerId !== this.drawing) return;
    this.drawing = null;
    this.changed();
  }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [
      (event.clientX - box.left) * this.canvas.width / box.width,
      (event.clientY - box.top) * this.canvas.height / box.height,
    ];
  }

  key(event) {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const cursor = this.cursor;
    if (event.key in moves) {
      const [x, y] = moves[event.key];
      cursor.x = Math.min(this.canvas.width - 10, Math.max(10, cursor.x + x * STEP));
      cursor.y = Math.min(this.canvas.height - 10, Math.max(10, cursor.y + y * STEP));
      if (cursor.down) this.strokes.at(-1).push([cursor.x, cursor.y]);
    } else if (event.key === " ") {
      cursor.down = !cursor.down;
      if (cursor.down) this.strokes.push([[cursor.x, cursor.y]]);
    } else if (event.key === "z" && (event.ctrlKey || event.metaKey)) {
      this.undo();
    } else if (event.key === "Delete" || event.key === "Backspace") {
      this.clear();
    } else {
      return;
    }
    event.preventDefault();
    cursor.shown = true;
    this.changed();
  }

  undo() {
    this.cursor.down = false;
    this.strokes.pop();
    this.changed();
  }

  clear() {
    this.cursor.down = false;
    this.strokes = [];
    this.changed();
  }

  /** Put strokes back that could not be learned, unless there are new ones. */
  restore(strokes) {
    if (!this.isEmpty) return;
    this.strokes = strokes;
    this.changed();
  }

  changed() {
    this.paint();
    this.dispatchEvent(new Event("change"));
  }

  paint() {
    const context = this.canvas.getContext("2d");
    const colours = getComputedStyle(document.documentElement);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.strokeStyle = context.fillStyle = colours.getPropertyValue("--ink");
    context.lineWidth = WIDTH;
    context.lineCap = context.lineJoin = "round";
    for (const stroke of this.strokes) {
      context.beginPath();
      context.moveTo(...stroke[0]);
      if (stroke.length === 1) context.lineTo(stroke[0][0] + 0.01, stroke[0][1]);
      for (const point of stroke.slice(1)) context.lineTo(...point);
      context.stroke();
    }
    if (this.cursor.shown) {
      context.fillStyle = colours.getPropertyValue(this.cursor.down ? "--danger" : "--accent");
      context.beginPath();
      context.arc(this.cursor.x, this.cursor.y, WIDTH / 1.6, 0, 2 * Math.PI);
      context.fill();
    }
    byId("pad-hint").hidden = !this.isEmpty || this.cursor.shown;
  }
}
