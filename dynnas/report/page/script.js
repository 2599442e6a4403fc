"use strict";
// Draws the page's charts at the width that they have, so that text keeps its size on a phone.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const COLOURS = {
    "front": "var(--front)", "static only": "var(--static-only)", "uniform width": "var(--uniform)",
    "cascades": "var(--cascades)", "random": "var(--random)", "searched": "var(--searched)",
  };

  function element(name, attributes, parent) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (parent) parent.append(made);
    return made;
  }

  // Round values that divide an axis in about `count` parts.
  function ticks(low, high, count, log) {
    if (log) {
      const found = [];
      const digits = high / low > 20 ? [1, 2, 5] : [1, 1.5, 2, 3, 5, 7];
      for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
        for (const digit of digits) {
          const value = digit * 10 ** power;
          if (value >= low && value <= high) found.push(value);
        }
      return found;
    }
    const raw = (high - low) / count, size = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((digit) => digit * size).find((value) => value >= raw);
    const found = [];
    for (let at = Math.ceil(low / step); at * step <= high + 1e-9 * step; at++) found.push(at * step);
    return found;
  }

  const plain = (value) => String(Number(value.toPrecision(4)));

  function axis(spec, values, from, to) {
    let low = spec.min ?? Math.min(...values), high = spec.max ?? Math.max(...values);
    if (low === high) { low -= Math.abs(low) * 0.05 || 0.5; high += Math.abs(high) * 0.05 || 0.5; }
    const log = Boolean(spec.log);
    if (log) { const room = (high / low) ** 0.04; low /= room; high *= room; }
    else {
      const room = 0.04 * (high - low);
      high += room;
      if (spec.min === undefined) low -= room;
    }
    const place = log ? Math.log : (value) => value;
    const scale = (value) => from + (to - from) * (place(value) - place(low)) / (place(high) - place(low));
    return { low, high, log, scale };
  }

  function star(x, y, size) {
    let path = "";
    for (let corner = 0; corner < 10; corner++) {
      const angle = Math.PI * (corner / 5 - 0.5), radius = corner % 2 ? size * 0.45 : size;
      path += (corner ? "L" : "M") + (x + radius * Math.cos(angle)) + " " + (y + radius * Math.sin(angle));
    }
    return path + "z";
  }

  class Chart {
    constructor(figure) {
      this.figure = figure;
      this.chart = JSON.parse(figure.querySelector("script").textContent);
      this.plot = figure.querySelector(".plot");
      this.hidden = new Set();
      if (this.chart.series.length > 1) this.controls(figure.querySelector(".legend"));
      new ResizeObserver(() => { if (this.plot.clientWidth !== this.width) this.draw(); }).observe(this.plot);
      this.draw();
    }

    controls(legend) {
      for (const series of [...this.chart.series].reverse()) {
        const button = document.createElement("button");
        button.type = "button";
        button.setAttribute("aria-pressed", "true");
        const mark = document.createElement("i");
        mark.style.background = COLOURS[series.name];
        button.append(mark, `${series.name} (${series.points.length})`);
        button.addEventListener("click", () => {
          const hide = !this.hidden.delete(series.name);
          if (hide) this.hidden.add(series.name);
          button.setAttribute("aria-pressed", String(!hide));
          this.draw();
        });
        legend.append(button);
      }
    }

    draw() {
      const { chart } = this;
      this.width = this.plot.clientWidth;
      if (!this.width) return;
      const width = this.width, height = Math.round(Math.min(460, Math.max(310, 0.56 * width)));
      const all = chart.series.flatMap((series) => series.points);
      const left = 72, right = 12, top = 10, bottom = 46;
      const values = (name) => all.map((point) => point[name]);
      const both = chart.diagonal ? [...values("x"), ...values("y")] : null;
      const x = axis(chart.x, both ?? values("x"), left, width - right);
      const y = axis(chart.y, both ?? values("y"), height - bottom, top);
      this.plot.textContent = "";
      this.placed = [];
      const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "group" }, this.plot);
      this.axes(svg, x, y, { left, right, top, bottom, width, height });
      svg.addEventListener("pointermove", (event) => this.touch(event));
      svg.addEventListener("pointerdown", (event) => this.touch(event));
      svg.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") this.hide(); });
      const clip = `${this.figure.id}-clip`;
      const shape = element("clipPath", { id: clip }, svg);
      element("rect", { x: left, y: 0, width: width - left - right + 8, height: height - bottom + 1 }, shape);
      const inside = element("g", { "clip-path": `url(#${clip})` }, svg);
      if (chart.diagonal)
        element("line", { x1: x.scale(x.low), y1: y.scale(x.low), x2: x.scale(x.high), y2: y.scale(x.high),
          stroke: "var(--faint)", "stroke-dasharray": "4 4" }, inside);
      for (const series of chart.series) if (!this.hidden.has(series.name)) this.series(series, x, y, inside);
      const below = chart.y.min === undefined ? 0 :
        chart.series.filter((series) => !this.hidden.has(series.name)).flatMap((series) => series.points)
          .filter((point) => point.y < chart.y.min).length;
      if (below)
        element("text", { x: width - right, y: height - bottom - 7, "text-anchor": "end" }, svg)
          .textContent = `${below} below the picture`;
      this.tip = document.createElement("div");
      this.tip.className = "tip";
      this.tip.setAttribute("role", "status");
      this.tip.hidden = true;
      this.plot.append(this.tip);
    }

    axes(svg, x, y, { left, right, top, bottom, width, height }) {
      const numbers = Math.max(3, Math.floor((width - left) / 90));
      for (const value of ticks(x.low, x.high, numbers, x.log)) {
        const at = x.scale(value);
        element("line", { class: "grid", x1: at, x2: at, y1: top, y2: height - bottom }, svg);
        element("text", { x: at, y: height - bottom + 17, "text-anchor": "middle" }, svg).textContent = plain(value);
      }
      for (const value of ticks(y.low, y.high, 6, y.log)) {
        const at = y.scale(value);
        element("line", { class: "grid", x1: left, x2: width - right, y1: at, y2: at }, svg);
        element("text", { x: left - 8, y: at + 4, "text-anchor": "end" }, svg).textContent = plain(value);
      }
      const below = element("text", { class: "axis", y: height - 8, "text-anchor": "middle" }, svg);
      below.textContent = this.chart.x.label;
      // Under the axis, but inside of the picture: on a phone a label is nearly as wide.
      below.setAttribute("x", Math.min((left + width - right) / 2, width - below.getComputedTextLength() / 2 - 2));
      const middle = (top + height - bottom) / 2;
      element("text", { class: "axis", x: 12, y: middle, "text-anchor": "middle",
        transform: `rotate(-90 12 ${middle})` }, svg).textContent = this.chart.y.label;
    }

    series(series, x, y, parent) {
      const colour = COLOURS[series.name], group = element("g", { "data-series": series.name }, parent);
      const { points } = series;
      if (series.style === "steps" && points.length) {
        let path = `M${x.scale(points[0].x)} ${y.scale(points[0].y)}`;
        for (const point of points.slice(1)) path += `H${x.scale(point.x)}V${y.scale(point.y)}`;
        if (this.chart.held) path += `H${x.scale(this.chart.x.max ?? x.high)}`;
        const dashes = { "static only": "6 4", "uniform width": "2 4" }[series.name] ?? "none";
        element("path", { d: path, fill: "none", stroke: colour, "stroke-width": 2, "stroke-dasharray": dashes }, group);
      }
      for (const point of points) {
        const at = [x.scale(point.x), y.scale(point.y)];
        const main = series.name === "front" || series.name === "cascades";
        const place = element("g", { class: "point", role: "img", "aria-label": point.tip.join(", ") }, group);
        if (main) place.setAttribute("tabindex", "0");
        this.mark(series, point, at, colour, place);
        this.placed.push({ point, at, place, main });
        place.addEventListener("focus", () => this.show(point, at, place));
        place.addEventListener("blur", () => this.hide());
      }
    }

    mark(series, point, [x, y], colour, parent) {
      const edge = { class: "mark", stroke: "var(--card)", "stroke-width": 1.2, fill: colour };
      if (series.style === "crosses")
        element("path", { d: `M${x - 3} ${y - 3}l6 6m0 -6l-6 6`, stroke: colour, "stroke-width": 1.4, class: "mark" }, parent);
      else if (series.style === "diamonds")
        element("path", { ...edge, d: `M${x} ${y - 7}l7 7l-7 7l-7 -7z` }, parent);
      else if (series.style === "dots") element("circle", { ...edge, cx: x, cy: y, r: 3.6, opacity: 0.75 }, parent);
      else if (series.name === "front" && point.dynamic) element("path", { ...edge, d: star(x, y, 9.5) }, parent);
      else element("circle", { ...edge, cx: x, cy: y, r: series.name === "front" ? 5.5 : 4 }, parent);
    }

    show(point, [x, y], place) {
      this.plot.querySelectorAll(".point.on").forEach((one) => one.classList.remove("on"));
      place.classList.add("on");
      const [first, ...rest] = point.tip, title = document.createElement("b");
      title.textContent = first;
      this.tip.replaceChildren(title, ...rest.flatMap((line) => [document.createElement("br"), line]));
      this.tip.hidden = false;
      const { offsetWidth: width, offsetHeight: height } = this.tip;
      this.tip.style.left = `${Math.max(0, Math.min(x - width / 2, this.width - width))}px`;
      this.tip.style.top = `${y - height - 14 >= 0 ? y - height - 14 : y + 16}px`;
    }

    // The nearest point in reach, those of the front first: points may lie closer than a finger is wide.
    touch(event) {
      const box = this.plot.getBoundingClientRect();
      const x = event.clientX - box.left, y = event.clientY - box.top;
      const rank = (one) => (one.main && one.away < 9 ? one.away - 100 : one.away);
      const near = this.placed
        .map((one) => ({ ...one, away: Math.hypot(one.at[0] - x, one.at[1] - y) }))
        .filter((one) => one.away <= (one.main ? 26 : 12))
        .sort((a, b) => rank(a) - rank(b))[0];
      if (near) this.show(near.point, near.at, near.place);
      else this.hide();
    }

    hide() {
      this.plot.querySelectorAll(".point.on").forEach((one) => one.classList.remove("on"));
      this.tip.hidden = true;
    }
  }

  document.querySelectorAll("figure.chart").forEach((figure) => new Chart(figure));

  // What a cell is sorted by: its number, 1.23 M and 4.5 k included, or its text.
  const UNITS = { k: 1e3, M: 1e6, G: 1e9 };
  function rank(cell) {
    const text = cell.textContent.trim(), found = /^([+-]?[0-9.]+)(?: ([kMG]))?/.exec(text);
    return cell.classList.contains("n") && found ? Number(found[1]) * (UNITS[found[2]] || 1) : text;
  }

  function sort(table, at, downwards) {
    const body = table.tBodies[0], rows = [...body.rows];
    const compare = (a, b) =>
      typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
    rows.sort((one, two) => (downwards ? -1 : 1) * compare(rank(one.cells[at]), rank(two.cells[at])));
    body.append(...rows);
    [...table.tHead.rows[0].cells].forEach((head, place) => {
      if (place === at) head.setAttribute("aria-sort", downwards ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
  }

  document.querySelectorAll("table").forEach((table) => {
    if (table.tBodies[0].rows.length < 2) return;
    [...table.tHead.rows[0].cells].forEach((head, at) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.title = "sort by this";
      button.addEventListener("click", () => sort(table, at, head.getAttribute("aria-sort") === "ascending"));
      head.replaceChildren(button);
    });
  });
})();
