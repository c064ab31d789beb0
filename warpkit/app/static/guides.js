// Guides: pairs of points, one in each of two pictures, that show the same place. The two canvases
// of a group share one list. A pair is {source: [x, y], target: [x, y]} in image pixels; an end of
// the last one may be missing: it waits. A canvas joins with {redraw, keep, say, guiding, solve}.
(() => {
  const groups = {};
  const other = (end) => (end === "source" ? "target" : "source");

  function group() {
    const canvases = {};
    let pairs = [];
    const finished = () => pairs.filter((pair) => pair.source && pair.target);
    const waiting = () => pairs.length > finished().length;

    function changed(solve) {
      const number = pairs.length, last = pairs[number - 1];
      for (const [end, canvas] of Object.entries(canvases)) {
        if (!waiting()) canvas.say("");
        else canvas.say(last[end] ? `guide ${number} waits for its place in the other picture` : `guide ${number} waits: click the same place here`);
        canvas.redraw();
        canvas.keep();
      }
      if (solve && canvases.source) canvases.source.solve();
    }

    return {
      join(end, canvas) { canvases[end] = canvas; },
      // A second click in the same picture moves the end that waits.
      click(end, point) {
        if (!waiting()) pairs.push({});
        pairs[pairs.length - 1][end] = point;
        changed(!waiting());
      },
      removeLast() {
        const solve = !waiting();
        if (pairs.pop()) changed(solve);
      },
      clear(solve) {
        const had = pairs.length > 0, solved = finished().length > 0;
        pairs = [];
        if (had) changed(solve && solved);
      },
      // The tool is taken up, and laid down, in both pictures at once.
      guiding(end, on) { if (canvases[other(end)]) canvases[other(end)].guiding(on); },
      empty: () => pairs.length === 0,
      finished: () => finished().map((pair) => [pair.source, pair.target]),
      // What a canvas draws: [point, index, whether it waits].
      marks: (end) => pairs.map((pair, i) => [pair[end], i, !pair[other(end)]]).filter((mark) => mark[0]),
    };
  }

  window.warpkitGuides = (name) => (groups[name] = groups[name] || group());
})();
