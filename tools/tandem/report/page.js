// Draws the curves of a report and lets the legend choose among them. Names are set as text, never as HTML.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("curve-data").textContent);
  const shown = { groups: data.groups.map(() => true), train: true, valid: true };
  const splits = ["train", "valid"];
  const kColors = 8, kDashes = 4, kTipRows = 12;

  const style = (group) => `c${group % kColors} d${Math.floor(group / kColors) % kDashes}`;
  const number = (value, percent) =>
    percent ? `${(100 * value).toFixed(2)} %` : value.toLocaleString("en-GB", { minimumSignificantDigits: 4, maximumSignificantDigits: 4 });
  const whole = (value) => value.toLocaleString("en-GB");

  const svg = (parent, name, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    parent.append(element);
    return element;
  };
  const html = (parent, name, text = "") => {
    const element = document.createElement(name);
    element.textContent = text;
    parent.append(element);
    return element;
  };

  // Round numbers in [low, high], about `count` of them.
  const ticks = (low, high, count) => {
    const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
    const all = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; ++i) all.push(i * step + 0);  // no -0
    return { all, step };
  };

  // The curves of a chart that are shown: {group, split, x, y, low, high}.
  const curvesOf = (chart) =>
    data.groups.flatMap((group, i) =>
      splits.filter((split) => shown.groups[i] && shown[split] && group.curves[chart.key]?.[split])
        .map((split) => ({ group: i, split, ...group.curves[chart.key][split] })));

  // Of any number of values: as arguments of Math.max they would be too many.
  const extent = (values) =>
    values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);

  // The first steps of a long training are far from the others, and would make these flat.
  const range = (curves, percent) => {
    const values = curves.flatMap(({ split, y, low = y, high = y }) => {
      const from = split === "train" && y.length > 30 ? Math.ceil(y.length / 20) : 0;
      return [...low.slice(from), ...high.slice(from)];
    });
    let [bottom, top] = extent(values);
    if (bottom >= 0 && bottom < 0.4 * top) bottom = 0;
    if (bottom === top) [bottom, top] = [bottom - Math.abs(bottom) / 10 - 1e-3, top + Math.abs(top) / 10 + 1e-3];
    const margin = 0.04 * (top - bottom);
    return [bottom === 0 ? 0 : bottom - margin, percent ? Math.min(1, top + margin) : top + margin];
  };

  class Chart {
    constructor(figure, chart) {
      this.chart = chart;
      this.plot = figure.querySelector(".plot");
      this.plot.addEventListener("pointermove", (event) => this.point(event));
      this.plot.addEventListener("pointerdown", (event) => this.point(event));
      this.plot.addEventListener("pointerleave", () => this.leave());
      this.plot.addEventListener("blur", () => this.leave());
      this.plot.addEventListener("focus", () => this.show(this.steps().at(-1)));
      this.plot.addEventListener("keydown", (event) => this.key(event));
    }

    steps() {
      return [...new Set(this.curves.flatMap(({ x }) => x))].sort((a, b) => a - b);
    }

    draw() {
      this.curves = curvesOf(this.chart);
      const width = this.plot.clientWidth, height = Math.round(Math.min(300, Math.max(210, width * 0.56)));
      this.plot.replaceChildren();
      const root = svg(this.plot, "svg", { viewBox: `0 0 ${width} ${height}`, height, "aria-hidden": "true", focusable: "false" });
      this.root = root, this.height = height, this.tip = null;
      if (this.curves.length === 0) {
        svg(root, "text", { x: width / 2, y: height / 2, "text-anchor": "middle" }).textContent = "nothing is chosen";
        this.plot.setAttribute("aria-valuetext", "nothing is chosen");
        return;
      }
      const last = extent(this.curves.flatMap(({ x }) => x))[1];
      const [bottom, top] = range(this.curves, this.chart.percent);
      const y = ticks(bottom, top, height / 55);
      const digits = Math.max(0, -Math.floor(Math.log10(this.chart.percent ? 100 * y.step : y.step) + 1e-9));
      const label = (value) => this.chart.percent ? `${(100 * value).toFixed(digits)} %` : value.toFixed(digits);
      const left = 10 + 7.2 * Math.max(...y.all.map((value) => label(value).length)), right = width - 10, base = height - 26;
      this.x = (step) => left + (right - left) * step / Math.max(last, 1);
      this.y = (value) => base - (base - 8) * (value - bottom) / (top - bottom);
      for (const value of y.all) {
        svg(root, "line", { class: "grid", x1: left, x2: right, y1: this.y(value), y2: this.y(value) });
        svg(root, "text", { x: left - 6, y: this.y(value) + 4, "text-anchor": "end" }).textContent = label(value);
      }
      svg(root, "line", { class: "axis", x1: left, x2: right, y1: base, y2: base });
      for (const step of ticks(0, Math.max(last, 1), Math.max(2, (right - left) / 90)).all) {
        svg(root, "line", { class: "axis", x1: this.x(step), x2: this.x(step), y1: base, y2: base + 4 });
        svg(root, "text", { x: this.x(step), y: base + 18, "text-anchor": step === 0 ? "start" : step > 0.95 * last ? "end" : "middle" })
          .textContent = whole(step);
      }
      const clip = svg(root, "clipPath", { id: `clip-${this.chart.key}` });
      svg(clip, "rect", { x: left, y: 4, width: right - left + 4, height: base - 3 });
      const inside = svg(root, "g", { "clip-path": `url(#clip-${this.chart.key})` });
      for (const curve of this.curves) this.line(inside, curve);
      this.plot.setAttribute("aria-valuemin", 0);
      this.plot.setAttribute("aria-valuemax", last);
      this.describe(last);
    }

    line(parent, { group, split, x, y, low, high }) {
      const at = (values) => x.map((step, i) => `${this.x(step).toFixed(1)},${this.y(values[i]).toFixed(1)}`);
    parent = svg(parent, "g", { "data-group": group });
      if (low) svg(parent, "path", { class: `band ${style(group)}`, d: `M${[...at(low), ...at(high).reverse()].join("L")}Z` });
      const behind = split === "train" && shown.valid && this.curves.some((curve) => curve.split === "valid");
      svg(parent, "path", { class: `curve ${split} ${behind ? "behind" : ""} ${style(group)}`, d: `M${at(y).join("L")}` });
      if ((split === "valid" && x.length <= 40) || x.length === 1)
        x.forEach((step, i) => svg(parent, "circle", { class: `dot ${style(group)}`, cx: this.x(step), cy: this.y(y[i]), r: 3.5 }));
    }

    // What each curve has at the point of it that is nearest to a step.
    values(step) {
      const rows = new Map();
      for (const { group, split, x, y } of this.curves) {
        const nearest = x.reduce((best, at, i) => Math.abs(at - step) < Math.abs(x[best] - step) ? i : best, 0);
        if (!rows.has(group)) rows.set(group, { group });
        rows.get(group)[split] = { step: x[nearest], value: y[nearest] };
      }
      return [...rows.values()];
    }

    describe(step) {
      const { percent } = this.chart;
      const text = this.values(step).map((row) =>
        `${data.groups[row.group].name}: ` + splits.filter((split) => row[split]).map((split) =>
          `${split === "train" ? "training" : "validation"} ${number(row[split].value, percent)}`).join(", ")).join("; ");
      this.plot.setAttribute("aria-valuenow", step);
      this.plot.setAttribute("aria-valuetext", `step ${whole(step)}; ${text}`);
    }

    show(step) {
      if (step === undefined) return;
      this.leave();
      this.at = step;
      this.describe(step);
      const at = this.x(step), { percent } = this.chart;
      this.cross = svg(this.root, "g", {});
      svg(this.cross, "line", { class: "cross", x1: at, x2: at, y1: 8, y2: this.height - 26 });
      const rows = this.values(step), present = splits.filter((split) => rows.some((row) => row[split]));
      for (const row of rows)
        for (const split of present)
          if (row[split]) svg(this.cross, "circle", { class: `dot ${style(row.group)}`, cx: this.x(row[split].step), cy: this.y(row[split].value), r: 4 });
      this.tip = html(this.plot, "div");
      this.tip.className = "tip";
      this.tip.setAttribute("aria-hidden", "true");  // the slider's value says it
      const table = html(this.tip, "table"), head = html(html(table, "thead"), "tr"), body = html(table, "tbody");
      html(head, "th", `step ${whole(step)}`).style.textAlign = "left";
      for (const split of present) html(head, "th", split === "train" ? "training" : "validation");
      for (const row of rows.slice(0, kTipRows)) {
        const line = html(body, "tr"), name = html(line, "th");
        const swatch = svg(name, "svg", { class: `swatch ${style(row.group)}`, viewBox: "0 0 24 12" });
        svg(swatch, "line", { x1: 0, x2: 24, y1: 6, y2: 6 });
        name.append(data.groups[row.group].name);
        for (const split of present) html(line, "td", row[split] ? number(row[split].value, percent) : "");
      }
      if (rows.length > kTipRows) html(html(body, "tr"), "th", `and ${rows.length - kTipRows} more`);
      const room = this.plot.clientWidth - this.tip.offsetWidth;
      this.tip.style.left = `${Math.max(0, Math.min(room, at > this.plot.clientWidth / 2 ? at - this.tip.offsetWidth - 12 : at + 12))}px`;
    }

    leave() {
      this.tip?.remove();
      this.cross?.remove();
      this.tip = this.cross = null;
    }

    point(event) {
      if (this.curves.length === 0) return;
      const left = this.plot.getBoundingClientRect().left, steps = this.steps();
      this.show(steps.reduce((best, step) =>
        Math.abs(this.x(step) - (event.clientX - left)) < Math.abs(this.x(best) - (event.clientX - left)) ? step : best, steps[0]));
    }

    key(event) {
      const steps = this.steps(), at = Math.max(0, steps.indexOf(this.at)), page = Math.max(1, Math.round(steps.length / 10));
      const to = { ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1, PageDown: at - page, PageUp: at + page, Home: 0, End: steps.length - 1 }[event.key];
      if (event.key === "Escape") this.leave();
      if (to === undefined || steps.length === 0) return;
      event.preventDefault();
      this.show(steps[Math.max(0, Math.min(steps.length - 1, to))]);
    }
  }

  if (data.charts.length === 0) return;
  const charts = data.charts.map((chart) => new Chart(document.querySelector(`[data-chart="${chart.key}"]`), chart));
  const draw = () => charts.forEach((chart) => chart.draw());

  const groups = [...document.querySelectorAll("button[data-group]")];
  const press = (button, on) => {
    button.setAttribute("aria-pressed", String(on));
    if (button.dataset.group !== undefined) shown.groups[Number(button.dataset.group)] = on;
    else shown[button.dataset.split] = on;
  };
  for (const button of document.querySelectorAll("button[aria-pressed]"))
    button.addEventListener("click", () => {
      press(button, button.getAttribute("aria-pressed") !== "true");
      draw();
    });
  // Pointing at a group brings it out of the others.
  const bring = (group) => {
    for (const part of document.querySelectorAll(".plot [data-group]"))
      part.classList.toggle("dim", group !== undefined && shown.groups[Number(group)] && part.dataset.group !== group);
  };
  for (const button of groups) {
    for (const event of ["pointerenter", "focus"]) button.addEventListener(event, () => bring(button.dataset.group));
    for (const event of ["pointerleave", "blur"]) button.addEventListener(event, () => bring());
  }
  for (const button of document.querySelectorAll("button[data-all]"))
    button.addEventListener("click", () => {
      groups.forEach((each) => press(each, button.dataset.all === "true"));
      draw();
    });

  // At first, and whenever the width changes: on a phone the height does all the time.
  const room = document.querySelector(".charts");
  let width = 0;
  const fit = () => {
    if (room.clientWidth === width || room.clientWidth === 0) return;
    width = room.clientWidth;
    draw();
  };
  new ResizeObserver(() => requestAnimationFrame(fit)).observe(room);
  fit();
})();
