// A picture to choose, paint on, box and click. Labels are kept as bytes, one a pixel, never blended.
// In: value = {picture, image, width, height, labels, layer, points, marks, message, serial}.
// Out: value = {picture, labels, layer, box, points, guides, click, upload, title}; points in image
// pixels, guides as pairs of points, source first (guides.js).
window.warpkitPainter = function (element, props, trigger, upload, watch) {
  const COLOURS = [[213, 94, 0], [86, 180, 233], [240, 228, 66], [0, 158, 115], [204, 121, 167], [230, 159, 0], [0, 114, 178]];
  const find = (name) => element.querySelector("." + name);
  const stage = find("wp-stage"), canvas = find("wp-canvas"), file = find("wp-file");
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const tools = [...element.querySelectorAll("[data-tool]")];
  const state = { picture: null, image: null, width: 0, height: 0, labels: null, layer: null, undo: [], box: null, points: [], marks: [], tool: tools.length ? tools[0].dataset.tool : "", drawing: false, last: null, start: null, busy: false };
  const root = find("wp"), end = root.dataset.end;
  const guides = root.dataset.guides ? window.warpkitGuides(root.dataset.guides) : null;
  let serial = null;

  const object = () => Number((find("wp-object") || {}).value || 1);
  const radius = () => Number((find("wp-size") || {}).value || 12) * Math.max(canvas.width, canvas.height) / 640;
  const scale = () => canvas.width / state.width;

  function say(text, wrong) {
    const line = find("wp-message");
    line.textContent = text || "";
    line.classList.toggle("wp-wrong", Boolean(wrong));
  }

  function content() {
    return { picture: state.picture, labels: exportLabels(), layer: exportLayer(), box: state.box, object: object(), points: state.points, guides: guides ? guides.finished() : [], width: state.width, height: state.height };
  }

  function send(extra, event) {
    props.value = Object.assign(content(), extra || {});
    trigger(event || "input");
  }

  function exportLabels() {
    if (!state.labels || !state.labels.some((v) => v > 0)) return "";
    const out = document.createElement("canvas");
    out.width = canvas.width; out.height = canvas.height;
    const pixels = new ImageData(canvas.width, canvas.height);
    state.labels.forEach((v, i) => { pixels.data[4 * i] = pixels.data[4 * i + 1] = pixels.data[4 * i + 2] = v; pixels.data[4 * i + 3] = 255; });
    out.getContext("2d").putImageData(pixels, 0, 0);
    return out.toDataURL("image/png");
  }

  function exportLayer() {
    return state.layer && state.layer.touched ? state.layer.toDataURL("image/png") : "";
  }

  function redraw() {
    if (!state.image) return;
    context.drawImage(state.image, 0, 0, canvas.width, canvas.height);
    if (state.layer) context.drawImage(state.layer, 0, 0);
    if (state.labels) {
      const pixels = context.getImageData(0, 0, canvas.width, canvas.height), w = canvas.width;
      for (let i = 0; i < state.labels.length; i++) {
        const v = state.labels[i];
        if (!v) {
          // A white line around an object tells it from a picture of its own colour.
          if (state.labels[i - 1] || state.labels[i + 1] || state.labels[i - w] || state.labels[i + w]) pixels.data.fill(255, 4 * i, 4 * i + 3);
          continue;
        }
        const c = COLOURS[(v - 1) % COLOURS.length];
        const rim = state.labels[i - 1] !== v || state.labels[i + 1] !== v || state.labels[i - w] !== v || state.labels[i + w] !== v;
        const a = rim ? 1 : 0.45;
        for (let k = 0; k < 3; k++) pixels.data[4 * i + k] = (1 - a) * pixels.data[4 * i + k] + a * c[k];
      }
      context.putImageData(pixels, 0, 0);
    }
    if (state.box) {
      const s = scale(), [x1, y1, x2, y2] = state.box.map((v) => (v + 0.5) * s);
      for (const [colour, width] of [["#000", 4], ["#fff", 2]]) {
        context.strokeStyle = colour; context.lineWidth = width;
        context.strokeRect(x1, y1, x2 - x1, y2 - y1);
      }
    }
    state.marks.forEach((mark, i) => drawPoint(mark, i, false));
    state.points.forEach((point, i) => drawPoint(point, i, true));
    if (guides) markGuides();
  }

  // Rings over the picture, each with its number; elements, for they are sharp on a small picture.
  function markGuides() {
    find("wp-marks").replaceChildren(...guides.marks(end).map(([point, i, waits]) => {
      const mark = document.createElement("span"), number = document.createElement("b");
      mark.className = "wp-mark";
      mark.classList.toggle("wp-waits", waits);
      // At the right and upper edge the number stands on the other side.
      mark.classList.toggle("wp-leftward", point[0] > 0.85 * state.width);
      mark.classList.toggle("wp-downward", point[1] < 0.12 * state.height);
      mark.style.left = `${100 * (point[0] + 0.5) / state.width}%`;
      mark.style.top = `${100 * (point[1] + 0.5) / state.height}%`;
      // The first colour is that of a mask.
      mark.style.setProperty("--colour", `rgb(${COLOURS[(i + 1) % COLOURS.length]})`);
      number.textContent = waits ? `${i + 1} ?` : String(i + 1);
      mark.append(number);
      return mark;
    }));
  }

  function drawPoint(point, i, filled) {
    const s = scale(), x = (point[0] + 0.5) * s, y = (point[1] + 0.5) * s, r = Math.max(7, canvas.width / 70);
    const c = COLOURS[i % COLOURS.length];
    context.beginPath(); context.arc(x, y, r, 0, 7);
    context.fillStyle = `rgb(${c})`; context.fill();
    context.lineWidth = 2; context.strokeStyle = filled ? "#000" : "#fff"; context.stroke();
    context.fillStyle = 0.3 * c[0] + 0.6 * c[1] + 0.1 * c[2] > 120 ? "#000" : "#fff";
    context.font = `bold ${Math.round(1.2 * r)}px sans-serif`; context.textAlign = "center"; context.textBaseline = "middle";
    context.fillText(String(i + 1), x, y);
  }

  function place(event) {
    const area = canvas.getBoundingClientRect();
    return [(event.clientX - area.left) * canvas.width / area.width, (event.clientY - area.top) * canvas.height / area.height];
  }

  function toImage(point) {
    const s = scale(), clip = (v, most) => Math.min(most - 1, Math.max(0, v));
    return [clip(point[0] / s - 0.5, state.width), clip(point[1] / s - 0.5, state.height)];
  }

  function stamp(x, y, value) {
    const r = radius(), w = canvas.width, h = canvas.height;
    for (let row = Math.max(0, Math.ceil(y - r)); row <= Math.min(h - 1, y + r); row++) {
      const half = Math.sqrt(r * r - (row - y) * (row - y));
      const from = Math.max(0, Math.ceil(x - half)), to = Math.min(w - 1, Math.floor(x + half));
      if (to >= from) state.labels.fill(value, row * w + from, row * w + to + 1);
    }
  }

  function stroke(from, to) {
    if (state.tool === "colour" || state.tool === "wipe") {
      const pen = state.layer.getContext("2d");
      pen.globalCompositeOperation = state.tool === "wipe" ? "destination-out" : "source-over";
      pen.strokeStyle = find("wp-colour") ? find("wp-colour").value : "#000"; pen.lineCap = "round"; pen.lineWidth = 2 * radius();
      pen.beginPath(); pen.moveTo(...from); pen.lineTo(to[0] + 0.01, to[1]); pen.stroke();
      state.layer.touched = true;
      return;
    }
    const value = state.tool === "erase" ? 0 : object();
    const steps = Math.max(1, Math.ceil(Math.hypot(to[0] - from[0], to[1] - from[1]) / Math.max(1, radius() / 3)));
    for (let i = 0; i <= steps; i++) stamp(from[0] + (to[0] - from[0]) * i / steps, from[1] + (to[1] - from[1]) * i / steps, value);
  }

  function newLayer() {
    const layer = document.createElement("canvas");
    layer.width = canvas.width; layer.height = canvas.height; layer.touched = false;
    return layer;
  }

  function remember() {
    const copy = newLayer();
    if (state.layer) { copy.getContext("2d").drawImage(state.layer, 0, 0); copy.touched = state.layer.touched; }
    state.undo.push({ labels: state.labels.slice(), layer: copy, points: state.points.slice(), box: state.box });
    if (state.undo.length > 12) state.undo.shift();
  }

  canvas.addEventListener("pointerdown", (event) => {
    if (!state.image || event.button > 0) return;
    event.preventDefault();
    const at = place(event);
    if (state.tool === "look") return send({ click: toImage(at) }, "select");
    if (state.tool === "guide") return guides.click(end, toImage(at));
    if (!state.tool) return;
    remember();
    if (state.tool === "point") {
      state.points.push(toImage(at)); redraw();
      return send({}, "input");
    }
    try { canvas.setPointerCapture(event.pointerId); } catch (_) { /* a made-up pointer */ }
    state.drawing = true; state.last = state.start = at;
    if (state.tool !== "box") { stroke(at, at); redraw(); }
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!state.drawing) return;
    const at = place(event);
    if (state.tool === "box") {
      const [a, b] = [toImage(state.start), toImage(at)];
      state.box = [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])];
    } else stroke(state.last, at);
    state.last = at; redraw();
  });
  const finish = () => {
    if (!state.drawing) return;
    state.drawing = false;
    if (state.tool === "box" && state.box) { say("Looking for the object in the box ..."); send({}, "select"); } else send({}, "input");
  };
  canvas.addEventListener("pointerup", finish);
  canvas.addEventListener("pointercancel", finish);

  function take(tool) {
    if (tool === "guide" && state.tool !== "guide") state.before = state.tool;
    state.tool = tool;
    tools.forEach((one) => one.classList.toggle("wp-on", one.dataset.tool === tool));
    if (guides) root.classList.toggle("wp-guided", tool === "guide" || !guides.empty());
  }
  tools.forEach((button) => button.addEventListener("click", () => {
    take(button.dataset.tool);
    if (guides) guides.guiding(end, state.tool === "guide");
  }));
  if (tools.length) take(tools[0].dataset.tool);
  if (guides) {
    guides.join(end, {
      redraw, say,
      keep() { take(state.tool); if (state.image) props.value = content(); },
      guiding(on) { if (on !== (state.tool === "guide")) take(on ? "guide" : state.before); },
      solve() { trigger("submit"); },
    });
  }
  const on = (name, act) => { const button = find(name); if (button) button.addEventListener("click", act); };
  on("wp-undo", () => {
    const before = state.undo.pop();
    if (!before) return;
    Object.assign(state, before); redraw(); send({}, "input");
  });
  on("wp-unguide", () => guides.removeLast());
  on("wp-no-guides", () => guides.clear(true));
  on("wp-clear", () => {
    if (!state.image) return;
    remember();
    state.labels.fill(0); state.layer = newLayer(); state.box = null; state.points = []; redraw(); send({}, "input");
  });

  async function choose(chosen) {
    if (!chosen || state.busy) return;
    const most = Number(root.dataset.mb);
    if (chosen.size > most * 1e6) return say(`${chosen.name} has ${Math.round(chosen.size / 1e6)} MB: this page takes files of at most ${most} MB`, true);
    state.busy = true; say(`Sending ${chosen.name} ...`);
    try {
      const sent = await upload(chosen);
      props.value = { picture: state.picture, upload: sent.path, title: chosen.name };
      trigger("upload");
    } catch (error) { say(`${chosen.name} could not be sent: ${error.message || error}`, true); }
    state.busy = false; file.value = "";
  }
  file.addEventListener("change", () => choose(file.files[0]));
  const browse = find("wp-empty");
  browse.addEventListener("click", () => file.click());
  on("wp-choose", () => file.click());
  stage.addEventListener("dragover", (event) => event.preventDefault());
  stage.addEventListener("drop", (event) => { event.preventDefault(); choose(event.dataTransfer.files[0]); });

  function load(url) {
    return new Promise((good, bad) => { const one = new Image(); one.onload = () => good(one); one.onerror = bad; one.src = url; });
  }

  async function show(value) {
    if (!value || value.serial === undefined || value.serial === serial) return;
    serial = value.serial;
    if (value.image) {
      state.image = await load(value.image);
      canvas.width = state.image.naturalWidth; canvas.height = state.image.naturalHeight;
      find("wp-picture").style.maxWidth = `calc(65vh * ${canvas.width / canvas.height})`;
      stage.classList.add("wp-full");
    }
    state.picture = value.picture;
    if (value.image) {
      // The points of another picture mean nothing in this one.
      if (guides) guides.clear(false);
      Object.assign(state, { width: value.width, height: value.height, labels: new Uint8Array(canvas.width * canvas.height), layer: newLayer(), undo: [], box: null, points: [], marks: [] });
    }
    if (value.labels && state.labels) {
      if (!value.image) remember();
      const one = await load(value.labels), copy = document.createElement("canvas");
      copy.width = canvas.width; copy.height = canvas.height;
      const pen = copy.getContext("2d"); pen.imageSmoothingEnabled = false;
      pen.drawImage(one, 0, 0, canvas.width, canvas.height);
      const pixels = pen.getImageData(0, 0, canvas.width, canvas.height).data, ids = new Set(value.object ? [value.object] : []);
      for (let i = 0; i < state.labels.length; i++) {
        if (ids.size && state.labels[i] === value.object) state.labels[i] = 0;
        if (pixels[4 * i]) state.labels[i] = pixels[4 * i];
        else if (!ids.size) state.labels[i] = 0;
      }
      state.box = null;
    }
    if (value.points) state.points = value.points;
    if (value.marks) state.marks = value.marks;
    say(value.message, value.wrong);
    redraw();
    if (state.image) {
      props.value = content();
    }
    root.dataset.picture = state.picture || "";
  }
  watch("value", () => show(props.value));
  show(props.value);
};
