// A picture to choose, paint on, box and click. Labels are kept as bytes, one a pixel, never blended.
// In: value = {picture, frame, image, width, height, labels, found, layer, edit, points, marks, message, of,
// settled, serial}; an empty image empties the canvas, none leaves the picture and frame that are shown.
// Out: value = {picture, frame, labels, layer, edit, box, points, guides, click, find, upload, title, kind};
// points in image pixels, guides as pairs of points, source first (guides.js). `found` is a mask that
// nobody gave: its outline is shown, and it is the painter's own once it is painted on. `edit` names
// the file that the layer was read from, as long as nothing is painted on it.
window.warpkitPainter = function (element, props, trigger, upload, watch) {
  const COLOURS = [[213, 94, 0], [86, 180, 233], [240, 228, 66], [0, 158, 115], [204, 121, 167], [230, 159, 0], [0, 114, 178]];
  const find = (name) => element.querySelector("." + name);
  const stage = find("wp-stage"), canvas = find("wp-canvas"), file = find("wp-file");
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const tools = [...element.querySelectorAll("[data-tool]")];
  const state = { found: null, edit: null, raw: null, tints: {}, picture: null, frame: null, image: null, width: 0, height: 0, labels: null, layer: null, undo: [], box: null, points: [], marks: [], tool: tools.length ? tools[0].dataset.tool : "", drawing: false, last: null, start: null, busy: false };
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
    return { picture: state.picture, frame: state.frame, labels: exportLabels(), layer: exportLayer(), edit: state.edit, box: state.box, object: object(), points: state.points, guides: guides ? guides.finished() : [], width: state.width, height: state.height };
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
      chooseTints();
      const pixels = context.getImageData(0, 0, canvas.width, canvas.height), w = canvas.width;
      for (let i = 0; i < state.labels.length; i++) {
        const v = state.labels[i];
        if (!v) {
          // A white line around an object tells it from a picture of its own colour.
          if (state.labels[i - 1] || state.labels[i + 1] || state.labels[i - w] || state.labels[i + w]) pixels.data.fill(255, 4 * i, 4 * i + 3);
          continue;
        }
        const c = state.tints[v] || COLOURS[0];
        const rim = state.labels[i - 1] !== v || state.labels[i + 1] !== v || state.labels[i - w] !== v || state.labels[i + w] !== v;
        const a = rim ? 1 : 0.35;
        for (let k = 0; k < 3; k++) pixels.data[4 * i + k] = (1 - a) * pixels.data[4 * i + k] + a * c[k];
      }
      if (state.found) outline(pixels.data, state.found, w);
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
    refresh();
  }

  // A line of black and white dashes around a mask, two pixels thick.
  function outline(data, mask, w) {
    const rows = mask.length / w;
    for (let i = 0; i < mask.length; i++) {
      const x = i % w, y = Math.floor(i / w), v = mask[i];
      if ((x === 0 || v === mask[i - 1]) && (x === w - 1 || v === mask[i + 1]) && (y === 0 || v === mask[i - w]) && (y === rows - 1 || v === mask[i + w])) continue;
      const shade = ((x + y) >> 3) % 2 ? 255 : 0;
      data.fill(shade, 4 * i, 4 * i + 3);
    }
  }

  // Each object's tint is far from the colours of its own pixels; one that still is stays.
  function chooseTints() {
    const seen = {};
    const step = Math.max(1, Math.floor(state.labels.length / 20000));
    for (let i = 0; i < state.labels.length; i += step) if (state.labels[i]) (seen[state.labels[i]] = seen[state.labels[i]] || []).push(i);
    for (const id of Object.keys(seen)) {
      const taken = Object.keys(state.tints).filter((other) => other !== id && seen[other]).map((other) => state.tints[other]);
      const nearness = (c) => {
        let sum = 0;
        for (const i of seen[id]) sum += Math.max(0, 220 - Math.hypot(...c.map((v, k) => v - state.raw[4 * i + k])));
        return sum / seen[id].length + (taken.includes(c) ? 500 : 0);
      };
      const best = COLOURS.reduce((a, b) => (nearness(b) < nearness(a) ? b : a));
      const now = state.tints[id];
      if (!now || nearness(now) > nearness(best) + 25) state.tints[id] = best;
    }
  }

  const painted = () => Boolean(state.labels && state.labels.some((v) => v > 0));

  // Buttons are off until they can do something.
  function refresh() {
    const full = Boolean(state.image), own = painted();
    const drawn = own || Boolean(state.found) || Boolean(state.box) || state.points.length > 0 || Boolean(state.layer && state.layer.touched);
    const set = (name, off) => element.querySelectorAll("." + name).forEach((one) => { one.disabled = off; });
    tools.forEach((one) => { one.disabled = !full; });
    for (const name of ["wp-find", "wp-load", "wp-size", "wp-colour", "wp-object", "wp-enlarge"]) set(name, !full);
    set("wp-undo", !state.undo.length);
    set("wp-clear", !drawn);
    if (guides) set("wp-guide-button", guides.empty());
    const badge = find("wp-badge");
    if (badge) badge.textContent = !full ? "" : own ? "mask: given" : state.found ? "mask: found" : "no mask";
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

  // Erasing takes away both, mask and colours.
  function stroke(from, to) {
    if (state.tool === "colour" || (state.tool === "erase" && state.layer.touched)) {
      const pen = state.layer.getContext("2d");
      pen.globalCompositeOperation = state.tool === "erase" ? "destination-out" : "source-over";
      pen.strokeStyle = find("wp-colour") ? find("wp-colour").value : "#000"; pen.lineCap = "round"; pen.lineWidth = 2 * radius();
      pen.beginPath(); pen.moveTo(...from); pen.lineTo(to[0] + 0.01, to[1]); pen.stroke();
      state.layer.touched = true;
      state.edit = null;
      if (state.tool === "colour") return;
    }
    if (state.found && !painted()) state.labels = state.found;
    state.found = null;
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
    state.undo.push({ labels: state.labels.slice(), found: state.found && state.found.slice(), layer: copy, edit: state.edit, points: state.points.slice(), box: state.box });
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
    state.labels.fill(0); state.found = null; state.layer = newLayer(); state.edit = null; state.box = null; state.points = []; redraw(); send({}, "input");
  });
  on("wp-find", () => { say("Looking for the object ..."); send({ find: true }, "select"); });
  on("wp-enlarge", () => {
    const large = root.classList.toggle("wp-large");
    find("wp-enlarge").textContent = large ? "Shrink" : "Enlarge";
  });
  window.addEventListener("keydown", (event) => { if (event.key === "Escape" && root.classList.contains("wp-large")) find("wp-enlarge").click(); });

  async function choose(chosen, kind) {
    if (!chosen || state.busy) return;
    const most = Number(root.dataset.mb);
    if (chosen.size > most * 1e6) return say(`${chosen.name} has ${Math.round(chosen.size / 1e6)} MB: this page takes files of at most ${most} MB`, true);
    state.busy = true; say(`Sending ${chosen.name} ...`);
    try {
      const sent = await upload(chosen);
      props.value = { ...content(), upload: sent.path, title: chosen.name, kind: kind || "" };
      trigger("upload");
    } catch (error) { say(`${chosen.name} could not be sent: ${error.message || error}`, true); }
    state.busy = false;
    element.querySelectorAll("input[type=file]").forEach((one) => { one.value = ""; });
  }
  file.addEventListener("change", () => choose(file.files[0]));
  const browse = find("wp-empty");
  browse.addEventListener("click", () => file.click());
  on("wp-choose", () => file.click());
  element.querySelectorAll(".wp-load").forEach((button) => {
    const input = button.nextElementSibling;
    button.addEventListener("click", () => input.click());
    input.addEventListener("change", () => choose(input.files[0], button.dataset.kind));
  });
  stage.addEventListener("dragover", (event) => event.preventDefault());
  stage.addEventListener("drop", (event) => { event.preventDefault(); choose(event.dataTransfer.files[0]); });

  function load(url) {
    return new Promise((good, bad) => { const one = new Image(); one.onload = () => good(one); one.onerror = bad; one.src = url; });
  }

  // The levels of a PNG as bytes, one for every pixel that is shown.
  function readIds(image) {
    const copy = newLayer(), pen = copy.getContext("2d");
    pen.imageSmoothingEnabled = false;
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    const pixels = pen.getImageData(0, 0, canvas.width, canvas.height).data, ids = new Uint8Array(canvas.width * canvas.height);
    for (let i = 0; i < ids.length; i++) ids[i] = pixels[4 * i];
    return ids;
  }

  // One value after another, however long each takes to load: what comes last is shown last.
  let shown = Promise.resolve();
  function show(value) {
    if (!value || value.serial === undefined || value.serial === serial) return;
    serial = value.serial;
    shown = shown.then(() => present(value)).catch(() => say("this could not be shown: open it again", true));
  }

  async function present(value) {
    const [image, labels, found, layer] = await Promise.all([value.image, value.labels, value.found, value.layer].map((url) => url ? load(url) : null));
    // From here on nothing waits: picture and masks change together.
    // What was found in a picture, or a frame of it, that is no longer shown.
    const late = value.image === undefined ? value.picture && (value.picture !== state.picture || (value.frame ?? null) !== state.frame) : value.of && value.of !== state.picture;
    if (late) { props.value = content(); return; }
    if (value.image !== undefined) {
      canvas.width = image ? image.naturalWidth : 1; canvas.height = image ? image.naturalHeight : 1;
      if (image) {
        find("wp-picture").style.setProperty("--wp-ratio", canvas.width / canvas.height);
        context.drawImage(image, 0, 0);
      }
      stage.classList.toggle("wp-full", Boolean(image));
      if (!image && root.classList.contains("wp-large")) find("wp-enlarge").click();
      Object.assign(state, {
        image, picture: image ? value.picture : null, frame: image ? value.frame ?? null : null, raw: context.getImageData(0, 0, canvas.width, canvas.height).data, width: value.width || 0, height: value.height || 0,
        labels: image && new Uint8Array(canvas.width * canvas.height), layer: image && newLayer(), undo: [], box: null, points: [], marks: [], found: null, edit: null, tints: {}, drawing: false,
      });
      // The points of another picture mean nothing in this one.
      if (guides) guides.clear(false);
    }
    if (labels && state.labels) {
      if (!image) remember();
      const ids = readIds(labels);
      for (let i = 0; i < state.labels.length; i++) {
        if (ids[i]) state.labels[i] = ids[i];
        else if (!value.object || state.labels[i] === value.object) state.labels[i] = 0;
      }
      state.box = null;
      state.found = null;
    }
    if (value.found !== undefined && state.labels) state.found = found && readIds(found);
    if (layer && state.labels) {
      if (!image) remember();
      state.layer = newLayer();
      state.layer.getContext("2d").drawImage(layer, 0, 0, canvas.width, canvas.height);
      state.layer.touched = true;
      state.edit = value.edit || null;
    }
    if (value.points) state.points = value.points;
    if (value.marks) state.marks = value.marks;
    if (value.message !== null) say(value.message, value.wrong);
    else if (value.settled && find("wp-message").classList.contains("wp-wrong")) say("");
    if (state.image) redraw(); else refresh();
    if (state.image || value.image !== undefined) props.value = content();
    root.dataset.picture = state.picture || "";
  }
  refresh();
  watch("value", () => show(props.value));
  show(props.value);
};

// Thumbnails of examples: a click says which.
window.warpkitExamples = function (element, props, trigger) {
  element.querySelectorAll("[data-example]").forEach((button) => button.addEventListener("click", () => {
    props.value = button.dataset.example;
    trigger("select");
  }));
};

// The wheel scrolls the page over the before/after slider too; with Ctrl it enlarges there.
document.addEventListener("wheel", (event) => {
  if (!event.ctrlKey && event.target.closest && event.target.closest("#warp-composite")) event.stopPropagation();
}, { capture: true, passive: true });
