"use strict";
(() => {
  const root = document.documentElement;
  const $ = (id) => document.getElementById(id);

  // A page that cannot draw says so; its tables are complete without scripts.
  window.addEventListener("error", (event) => {
    const box = $("broken");
    box.hidden = false;
    box.querySelector("code").textContent = event.message;
    root.dataset.ready = "failed";
  });

  const data = JSON.parse($("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => dark.matches && !root.classList.contains("force-light");
  const colorOf = (thing) => (isDark() ? thing.dark : thing.color);
  const css = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, Arial, "DejaVu Sans", sans-serif';

  // ---- numbers ------------------------------------------------------------------------------------------------
  const trim = (v, digits) => String(Number(v.toPrecision(digits)));
  function count(v) {
    if (v == null || !isFinite(v)) return "—";
    for (const [unit, suffix] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]])
      if (Math.abs(v) >= unit * 0.9995) return trim(v / unit, 3) + suffix;
    return trim(v, 3);
  }
  const percent = (v) => (v == null ? "—" : (100 * v).toFixed(1) + "%");
  const small = (v) => (v == null ? "—" : trim(v, 3));
  const reach = (r) => (r.open ? "> " : "") + count(r.n);
  function summaryText(s) {
    const interval = s.runs > 1 ? `\ninterval ${reach(s.low)} to ${reach(s.high)} (coverage ${percent(s.coverage)})` : "";
    return `median ${reach(s.median)}${interval}\n${s.reached} of ${s.runs} reached`;
  }

  // ---- small DOM helpers; text only ever goes in as text ------------------------------------------------------------
  function el(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }
  function swatch(thing) {
    const node = el("i", { class: "swatch" });
    node.style.setProperty("--l", thing.color);
    node.style.setProperty("--d", thing.dark);
    return node;
  }
  function segment(parent, label, choices, current, pick) {
    const box = el("span", { class: "segment", role: "group", "aria-label": label });
    for (const [value, text] of choices) {
      const button = el("button", { type: "button", "aria-pressed": String(value === current) }, text);
      button.addEventListener("click", () => {
        for (const other of box.children) other.setAttribute("aria-pressed", String(other === button));
        pick(value);
      });
      box.append(button);
    }
    parent.append(el("label", {}, label), box);
  }
  function dropdown(parent, label, choices, pick) {
    const select = el("select", { "aria-label": label });
    for (const [value, text] of choices) select.append(el("option", { value }, text));
    select.addEventListener("change", () => pick(select.value));
    parent.append(el("label", {}, label), select);
  }
  // Saves a chart's numbers; the button stands beside the links to its drawings.
  function csvButton(element, name, rows) {
    let place = element.nextElementSibling;
    if (!place || place.className !== "files") { place = el("p", { class: "files" }); element.after(place); }
    const button = el("button", { type: "button", title: "The numbers of this chart, as this page has them" }, "CSV");
    const cell = (v) => (v == null ? "" : /[",\n\r]/.test(String(v)) ? `"${String(v).replaceAll('"', '""')}"` : String(v));
    button.addEventListener("click", () => {
      const text = rows().map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
      const link = el("a", { download: name + ".csv" });
      link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    });
    place.append(button);
  }
  const tip = $("tip");
  function showTip(text, event) {
    tip.textContent = text;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - box.width - 4)) + "px";
    tip.style.top = Math.max(4, event.clientY - box.height - 12) + "px";
  }

  // ---- charts -----------------------------------------------------------------------------------------------------
  // Every chart is a function that draws itself into its element, called again when width or theme change.
  const charts = [];
  const plots = new Map();
  function chart(element, draw) {
    const redraw = () => {
      for (const plot of plots.get(element) || []) plot.destroy();
      plots.set(element, [].concat(draw(Math.max(280, element.clientWidth))));
    };
    charts.push(redraw);
    redraw();
    return redraw;
  }
  const redrawAll = () => charts.forEach((redraw) => redraw());

  const axis = (label, values, more = {}) => ({
    label, values, size: 34, stroke: css("--fg"), font: FONT, labelFont: FONT, labelSize: 22, labelGap: 2,
    grid: { stroke: css("--grid"), width: 1 }, ticks: { stroke: css("--grid"), width: 1, size: 5 }, ...more,
  });
  const each = (format) => (u, splits) => splits.map((v) => (v == null ? "" : format(v)));
  // On a logarithmic axis: 1, 2, 5 per decade where they fit, else decades.
  function logSplits(u, index, low, high) {
    const decades = Math.log10(high / low);
    const factors = decades < 1.2 ? [1, 1.5, 2, 3, 4, 5, 6, 8] : decades < 3 ? [1, 2, 5] : [1];
    const splits = [];
    for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
      for (const f of factors) if (f * 10 ** e >= low && f * 10 ** e <= high) splits.push(f * 10 ** e);
    return splits;
  }
  const logAxis = (label) => axis(label, each(count), { splits: logSplits, filter: (u, splits) => splits });
  const padded = (low, high) => {
    const air = Math.max(1.5, high / low) ** 0.05;
    return [low / air, high * air];
  };

  function pen(u, draw) {
    const { ctx, bbox } = u;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    draw(ctx, bbox, devicePixelRatio);
    ctx.restore();
  }
  // A rim of paper keeps text readable on lines.
  function rimmed(ctx, ratio, text, x, y) {
    ctx.save();
    ctx.setLineDash([]); ctx.lineJoin = "round"; ctx.lineWidth = 3 * ratio; ctx.strokeStyle = css("--bg");
    ctx.strokeText(text, x, y);
    ctx.restore();
    ctx.fillText(text, x, y);
  }
  function symbol(ctx, shape, x, y, r) {
    ctx.beginPath();
    const poly = (...corners) => { corners.forEach(([a, b], i) => ctx[i ? "lineTo" : "moveTo"](x + a * r, y + b * r)); ctx.closePath(); };
    if (shape === "square") poly([-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]);
    else if (shape === "diamond") poly([-1.25, 0], [0, -1.25], [1.25, 0], [0, 1.25]);
    else if (shape === "triangle_up") poly([-1, 1], [1, 1], [0, -1.25]);
    else if (shape === "triangle_down") poly([-1, -1], [1, -1], [0, 1.25]);
    else if (shape === "arrow_right") poly([-0.6, -1], [1.4, 0], [-0.6, 1]);
    else if (shape === "arrow_up") poly([-1, 0.6], [0, -1.4], [1, 0.6]);
    else if (shape === "cross") poly([-1, -0.6], [-0.6, -1], [0, -0.4], [0.6, -1], [1, -0.6], [0.4, 0], [1, 0.6], [0.6, 1], [0, 0.4], [-0.6, 1], [-1, 0.6], [-0.4, 0]);
    else ctx.arc(x, y, r, 0, 2 * Math.PI);
    ctx.fill();
  }
  // Nearest of `hits` ({x, y, text} in CSS pixels of the plotting area) under the pointer.
  function hover(over, hits) {
    over.addEventListener("pointermove", (event) => {
      const box = over.getBoundingClientRect();
      let best = null, distance = 18;
      for (const hit of hits) {
        const d = Math.hypot(hit.x - (event.clientX - box.left), hit.y - (event.clientY - box.top));
        if (d < distance) [best, distance] = [hit, d];
      }
      if (best) showTip(best.text, event); else tip.hidden = true;
    });
    over.addEventListener("pointerleave", () => { tip.hidden = true; });
  }
  // Value of a sampled curve at x: the last one at or before it.
  function at(xs, ys, x) {
    let low = 0, high = xs.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (xs[middle] <= x) low = middle + 1; else high = middle;
    }
    return low ? ys[low - 1] : null;
  }

  const nameOf = (arm) => arm.label + (arm.same ? ` (identical to ${arm.same})` : "");

  // ---- accuracy ---------------------------------------------------------------------------------------------------
  function accuracyChart(element) {
    const state = { shown: data.arms.map(() => true), seeds: "all", log: false, loss: false };
    const controls = $("accuracy-controls"), buttons = $("accuracy-arms"), readout = $("accuracy-readout");
    let redraw = () => {};
    data.arms.forEach((arm, i) => {
      const button = el("button", { type: "button", "aria-pressed": "true" }, swatch(arm), nameOf(arm));
      button.addEventListener("click", () => {
        state.shown[i] = !state.shown[i];
        button.setAttribute("aria-pressed", String(state.shown[i]));
        redraw();
      });
      buttons.append(button);
    });
    const set = (key) => (value) => { state[key] = value; redraw(); };
    segment(controls, "x axis", [[false, "linear"], [true, "logarithmic"]], false, set("log"));
    if (data.arms.some((arm) => arm.runs.some((run) => run.l.some((v) => v != null))))
      segment(controls, "y axis", [[false, "accuracy"], [true, "loss"]], false, set("loss"));
    const seeds = [...new Set(data.arms.flatMap((arm) => arm.runs.map((run) => run.seed)))].sort((a, b) => a - b);
    if (seeds.length > 1)
      dropdown(controls, "seeds", [["all", "all, with medians"], ["median", "medians only"], ...seeds.map((s) => [s, `only seed ${s}`])], set("seeds"));

    function curves() {
      const list = [];
      data.arms.forEach((arm, i) => {
        if (!state.shown[i]) return;
        const one = state.seeds !== "all" && state.seeds !== "median";
        for (const run of arm.runs) {
          const alone = one && String(run.seed) === state.seeds;
          // The loss has no median curve: every seed is drawn.
          const faint = !one && arm.runs.length > 1 && (state.seeds === "all" || state.loss);
          if (alone || faint) list.push({ arm, xs: run.x, ys: state.loss ? run.l : run.a, faint: faint && !state.loss, thin: state.loss && !alone });
        }
        if (!one && (!state.loss || arm.runs.length === 1)) {
          const only = arm.runs.length === 1 && arm.runs[0];
          list.push(only ? { arm, xs: only.x, ys: state.loss ? only.l : only.a } : { arm, xs: arm.median.x, ys: arm.median.a });
        }
      });
      // Faint lines first, so that medians lie on top.
      return list.sort((a, b) => Boolean(b.faint) - Boolean(a.faint));
    }

    function fill(x) {
      const one = state.seeds !== "all" && state.seeds !== "median" ? state.seeds : null;
      const head = el("tr", {}, ...["", state.loss ? "loss" : "accuracy", "min to max", "seeds"].map((t) => el("th", { scope: "col" }, t)));
      const rows = data.arms.filter((arm, i) => state.shown[i]).map((arm) => {
        const runs = arm.runs.filter((run) => one == null || String(run.seed) === one);
        const key = state.loss ? "l" : "a";
        const values = runs.map((run) => (x == null ? run[key].at(-1) : at(run.x, run[key], x))).filter((v) => v != null).sort((a, b) => a - b);
        const text = state.loss ? small : percent;
        const n = values.length, middle = n ? values[(n - 1) >> 1] : null;
        const step = x != null && runs.length === 1 && runs[0].t ? at(runs[0].x, runs[0].t, x) : null;
        return el("tr", {}, el("th", { scope: "row" }, swatch(arm), nameOf(arm)), el("td", { class: "n" }, text(middle)),
          el("td", { class: "n" }, n > 1 ? `${text(values[0])} to ${text(values[n - 1])}` : "—"),
          el("td", {}, String(n) + (step != null ? `, follows teacher step ${step}` : "")));
      });
      const where = x == null ? "at the end of each run (move the pointer over the chart)" : `at ${count(x)} samples`;
      readout.replaceChildren(el("caption", {}, `Median ${where}`), head, ...rows);
    }

    redraw = chart(element, (width) => {
      const list = curves();
      const usable = (v) => v != null && (!state.log || v > 0);
      const tables = list.map(({ xs, ys }) => {
        const keep = xs.map((x, i) => i).filter((i) => usable(xs[i]));
        return [keep.map((i) => xs[i]), keep.map((i) => ys[i])];
      }).map((table) => (table[0].length ? table : [[1], [null]]));
      const joined = tables.length ? uPlot.join(tables) : [[1, 10], [null, null]];
      const low = Math.min(data.chance ?? 1, ...list.flatMap(({ ys }) => ys.reduce((m, v) => (v != null && v < m ? v : m), 1)));
      const u = new uPlot({
        width, height: Math.max(300, Math.min(460, width * 0.5)), padding: [10, 24, 0, 0], legend: { show: false },
        cursor: { drag: { x: true, y: false }, points: { show: false }, y: false },
        scales: {
          x: { time: false, distr: state.log ? 3 : 1, range: (u, a, b) => (a == null ? [1, 10] : a === b ? [a * 0.9, b * 1.1 + 1] : [a, b]) },
          y: state.loss ? {} : { range: [Math.max(0, low - 0.03), 1.02] },
        },
        axes: [
          state.log ? logAxis("training samples (logarithmic)") : axis("training samples", each(count), { space: 70 }),
          axis(state.loss ? "loss" : "accuracy", each(state.loss ? small : (v) => Math.round(v * 1000) / 10 + "%"), { size: 58, space: 36 }),
        ],
        series: [{}, ...(list.length ? list : [{ arm: data.arms[0] }]).map(({ arm, faint, thin }) => ({
          stroke: colorOf(arm), width: faint ? 1 : thin ? 1.2 : 2.4, alpha: faint ? 0.3 : thin ? 0.75 : 1,
          dash: arm.dash && !faint ? [8, 5] : undefined, points: { show: false }, spanGaps: true,
        }))],
        hooks: {
          drawAxes: [(u) => {
            if (state.loss || data.chance == null) return;
            pen(u, (ctx, box, ratio) => {
              const y = u.valToPos(data.chance, "y", true);
              ctx.strokeStyle = ctx.fillStyle = css("--axis");
              ctx.setLineDash([2 * ratio, 3 * ratio]);
              ctx.beginPath(); ctx.moveTo(box.left, y); ctx.lineTo(box.left + box.width, y); ctx.stroke();
              ctx.font = FONT.replace("12px", 11 * ratio + "px");
              ctx.textAlign = "right"; ctx.textBaseline = "top";
              ctx.fillText(`chance ${percent(data.chance)}`, box.left + box.width - 6 * ratio, y + 9 * ratio);
            });
          }],
          draw: [(u) => { if (!state.loss) { usedMarks(u); lineNames(u); } }],
          setCursor: [(u) => fill(u.cursor.left >= 0 ? u.posToVal(u.cursor.left, "x") : null)],
        },
      }, joined, element);
      fill(null);
      return u;
    });

    // More lines than colours can tell apart carry their names.
    function lineNames(u) {
      pen(u, (ctx, box, ratio) => data.arms.forEach((arm, i) => {
        if (!arm.name || !state.shown[i] || (state.log && arm.name.at[0] <= 0)) return;
        const [x, y] = [u.valToPos(arm.name.at[0], "x", true), u.valToPos(arm.name.at[1], "y", true)];
        ctx.fillStyle = colorOf(arm);
        ctx.font = FONT.replace("12px", 11 * ratio + "px");
        ctx.textBaseline = "middle"; ctx.textAlign = x > box.left + 0.8 * box.width ? "right" : "left";
        rimmed(ctx, ratio, arm.name.text, x + (ctx.textAlign === "left" ? 5 : -5) * ratio, y);
      }));
    }

    csvButton(element, "accuracy", () => [["arm", "seed", "samples", "accuracy", "loss"],
      ...data.arms.flatMap((arm) => arm.runs.flatMap((run) => run.x.map((x, i) => [arm.label, run.seed, x, run.a[i], run.l[i]])))]);

    // Diamonds where students took checkpoints from the teacher of the same seed.
    function usedMarks(u) {
      for (const timeline of data.timelines) {
        const i = data.arms.findIndex((arm) => arm.teacher && arm.runs.some((run) => run.seed === timeline.seed));
        const one = state.seeds !== "all" && state.seeds !== "median" && state.seeds !== String(timeline.seed);
        if (i < 0 || !state.shown[i] || one || state.seeds === "median") continue;
        const run = data.arms[i].runs.find((run) => run.seed === timeline.seed);
        pen(u, (ctx, box, ratio) => {
          for (const { x } of timeline.used) {
            const y = at(run.x, run.a, x);
            if (y == null || (state.log && x <= 0)) continue;
            ctx.fillStyle = colorOf(data.arms[i]);
            symbol(ctx, "diamond", u.valToPos(x, "x", true), u.valToPos(y, "y", true), 3.5 * ratio);
          }
        });
      }
    }
  }

  // ---- correlation ------------------------------------------------------------------------------------------------
  function correlationCharts(element) {
    const inside = { color: "#0072b2", dark: "#4aa8e8" }, outside = { color: "#d55e00", dark: "#ff8a3d" };
    const controls = $("correlation-controls"), text = $("correlation-text");
    const timelines = data.timelines.filter((t) => t.x.length);
    // A transition squeezed into the left edge needs the logarithm to be seen.
    const early = (t) => Boolean(t.transition && t.transition[1] < t.x.at(-1) / 5);
    const state = { index: 0, log: early(timelines[0]) };
    let redraw = () => {};
    if (timelines.length > 1)
      dropdown(controls, "teacher seed", timelines.map((t, i) => [i, String(t.seed)]), (v) => { state.index = Number(v); redraw(); });
    segment(controls, "x axis", [[false, "linear"], [true, "logarithmic"]], state.log, (v) => { state.log = v; redraw(); });
    const key = el("div", { class: "key" });
    const entry = (kind, color, label) => {
      const line = el("i", { class: kind });
      line.style[kind === "area" ? "background" : "borderColor"] = color;
      key.append(el("span", {}, line, label));
    };
    const read = el("p", { class: "caption" });
    const area = el("div");
    element.append(key, area, read);

    csvButton(element, "correlation", () => [["teacher seed", "samples", "accuracy", "degree", "inside mean", "inside largest", "outside mean", "outside largest", "noise floor"],
      ...timelines.flatMap((t) => t.degrees.flatMap((d) => t.x.map((x, i) => [t.seed, x, t.a[i], d.degree, d.inMean[i], d.inMax[i], d.offMean[i], d.offMax[i], d.floor[i]])))]);
    redraw = chart(area, (width) => {
      const t = timelines[state.index];
      key.replaceChildren();
      entry("area", css("--region"), "phase transition");
      entry("line", colorOf(inside), "inside the support, mean");
      entry("thin", colorOf(inside), "largest");
      entry("line", colorOf(outside), "outside the support, mean");
      entry("thin", colorOf(outside), "largest");
      entry("dash", css("--axis"), "noise floor of sampling");
      if (t.recommended) entry("dash", colorOf({ color: "#009e73", dark: "#2fc79b" }), "recommended checkpoint");
      text.textContent = t.sentence + (t.recommended ? ` Recommended checkpoint for (2,T)-distillation: ${count(t.recommended.x)} samples. ${t.recommended.reason}` : "");
      const keep = t.x.map((x, i) => i).filter((i) => !state.log || t.x[i] > 0);
      const pick = (column) => keep.map((i) => column[i]);
      const line = (color, width, dash) => ({ stroke: color, width, dash, points: { show: keep.length < 80 && width > 2, size: 5, fill: color }, spanGaps: true });
      const say = (i) => {
        if (i == null) { read.textContent = "Move the pointer over the charts to read a checkpoint."; return; }
        const parts = t.degrees.map((d) => `degree ${d.degree}: inside ${small(pick(d.inMean)[i])} (largest ${small(pick(d.inMax)[i])}), outside ${small(pick(d.offMean)[i])} (largest ${small(pick(d.offMax)[i])})`);
        read.textContent = `${count(pick(t.x)[i])} samples: accuracy ${percent(pick(t.a)[i])}; ${parts.join("; ")}`;
      };
      say(null);
      const low = Math.max(0, Math.min(data.chance ?? 1, ...t.a.filter((v) => v != null)) - 0.05);
      const make = (title, height, last, columns, series, yAxis, yScale) => new uPlot({
        width, height, padding: [8, 24, 0, 0], legend: { show: false },
        cursor: { sync: { key: "correlation" }, drag: { x: true, y: false }, y: false, points: { show: false } },
        scales: { x: { time: false, distr: state.log ? 3 : 1, range: (u, a, b) => (a == null ? [1, 10] : a === b ? [a * 0.9, b * 1.1 + 1] : [a, b]) }, y: yScale },
        axes: [state.log ? logAxis(last ? "training samples of the teacher (logarithmic)" : undefined) : axis(last ? "training samples of the teacher" : undefined, each(count), { space: 70 }), { ...yAxis, size: 58 }],
        series: [{}, ...series],
        hooks: {
          drawClear: [(u) => pen(u, (ctx, box, ratio) => {
            if (!t.transition) return;
            const [a, b] = t.transition.map((x) => u.valToPos(Math.max(x, u.scales.x.min), "x", true));
            ctx.fillStyle = css("--region");
            ctx.fillRect(a, box.top, Math.max(b - a, 1.5 * ratio), box.height);
          })],
          draw: [(u) => pen(u, (ctx, box, ratio) => {
            ctx.font = FONT.replace("12px", "600 " + 11.5 * ratio + "px");
            ctx.fillStyle = css("--muted"); ctx.textBaseline = "top"; ctx.textAlign = "left";
            ctx.fillText(title, box.left + 8 * ratio, box.top + 5 * ratio);
            if (t.recommended) {
              const x = u.valToPos(t.recommended.x, "x", true);
              ctx.strokeStyle = colorOf({ color: "#009e73", dark: "#2fc79b" }); ctx.lineWidth = 1.5 * ratio;
              ctx.setLineDash([6 * ratio, 4 * ratio]);
              ctx.beginPath(); ctx.moveTo(x, box.top); ctx.lineTo(x, box.top + box.height); ctx.stroke();
            }
            if (title.startsWith("Accuracy")) for (const used of t.used) {
              const y = at(t.x, t.a, used.x);
              if (y == null) continue;
              const x = u.valToPos(used.x, "x", true);
              ctx.fillStyle = css("--fg");
              symbol(ctx, "diamond", x, u.valToPos(y, "y", true), 3.5 * ratio);
              if (t.used.length > 4) continue;
              ctx.font = FONT.replace("12px", 11 * ratio + "px");
              // Beside a steep rise, above a plateau: off the curve either way.
              const steep = y > low + 0.15 && y < 0.98;
              ctx.textAlign = steep ? "right" : "center"; ctx.textBaseline = steep ? "middle" : "bottom";
              ctx.fillText(used.label, x - (steep ? 8 * ratio : 0), u.valToPos(y, "y", true) - (steep ? 0 : 6 * ratio));
            }
          })],
          setCursor: [(u) => say(u.cursor.left >= 0 ? u.cursor.idx : null)],
        },
      }, [pick(t.x), ...columns.map(pick)], area);
      return [
        make("Accuracy of the teacher", 170, false, [t.a], [line(css("--fg"), 2.2)], axis("accuracy", each((v) => (v > 1 ? "" : Math.round(v * 100) + "%"))), { range: [low, 1.12] }),
        ...t.degrees.map((d, i) => make(
          d.degree === 1 ? "Degree 1: single coordinates" : d.degree === 2 ? "Degree 2: pairs of coordinates" : `Degree ${d.degree}`,
          i + 1 === t.degrees.length ? 250 : 220, i + 1 === t.degrees.length, [d.floor, d.offMax, d.inMax, d.offMean, d.inMean],
          [line(css("--axis"), 1.5, [6, 4]), line(colorOf(outside), 1.2, [2, 3]), line(colorOf(inside), 1.2, [2, 3]), line(colorOf(outside), 2.2), line(colorOf(inside), 2.2)],
          axis("|correlation|", each(small)), { range: (u, a, b) => [0, (b || 0.1) * 1.08] })),
      ];
    });
  }

  // ---- samples to a level -----------------------------------------------------------------------------------------
  function samplesChart(element) {
    const rows = data.arms.filter((arm) => arm.summary);
    csvButton(element, "samples", () => [["arm", "seed", `samples to ${data.level}`, "reached"],
      ...rows.flatMap((arm) => arm.runs.filter((r) => r.to).map((r) => [arm.label, r.seed, r.to.n, !r.to.open]))]);
    const values = rows.flatMap((arm) => arm.runs.filter((r) => r.to).map((r) => Math.max(1, r.to.n)));
    const range = padded(Math.min(...values), Math.max(...values));
    // Room for the arrow of an open end.
    range[1] *= (range[1] / range[0]) ** 0.03;
    chart(element, (width) => {
      const measure = document.createElement("canvas").getContext("2d");
      measure.font = FONT;
      const widest = Math.max(...rows.map((arm) => measure.measureText(arm.label).width));
      const size = Math.min(widest + 18, width * 0.42);
      const fit = (label) => {
        if (measure.measureText(label).width <= size - 14) return label;
        let text = label;
        while (text.length > 1 && measure.measureText(text + "…").width > size - 14) text = text.slice(0, -1);
        return text + "…";
      };
      const hits = [];
      const u = new uPlot({
        width, height: 70 + 46 * rows.length, padding: [6, 24, 0, 0], legend: { show: false },
        cursor: { drag: { x: false, y: false }, points: { show: false }, y: false, x: false },
        scales: { x: { time: false, distr: 3, range }, y: { dir: -1, range: [-0.5, rows.length - 0.5] } },
        axes: [
          logAxis(`training samples to ${data.level}` + (width > 560 ? " accuracy (logarithmic)" : "")),
          axis(undefined, each((v) => fit(rows[v]?.label ?? "")), { size, splits: () => rows.map((r, i) => i), filter: (u, s) => s }),
        ],
        series: [{}, { paths: () => null, points: { show: false } }],
        hooks: { draw: [(u) => pen(u, (ctx, box, ratio) => {
          hits.length = 0;
          const hit = (x, y, text) => hits.push({ x: (x - box.left) / ratio, y: (y - box.top) / ratio, text });
          rows.forEach((arm, row) => {
            ctx.fillStyle = ctx.strokeStyle = colorOf(arm);
            const runs = arm.runs.filter((r) => r.to);
            ctx.globalAlpha = 0.8;
            runs.forEach((run, i) => {
              const x = u.valToPos(Math.max(1, run.to.n), "x", true);
              const y = u.valToPos(row - 0.3 + (0.4 * (i + 0.5)) / runs.length, "y", true);
              symbol(ctx, run.to.open ? "arrow_right" : arm.shape, x, y, (run.to.open ? 4.5 : 3.6) * ratio);
              hit(x, y, `${arm.label}, seed ${run.seed}\n${run.to.open ? "not reached in " + count(run.to.n) : count(run.to.n)} samples`);
            });
            ctx.globalAlpha = 1;
            const s = arm.summary, y = u.valToPos(row + 0.28, "y", true), x = (r) => u.valToPos(Math.max(1, r.n), "x", true);
            whisker(ctx, ratio, s, x, (v) => [v, y], [1, 0]);
            hit(x(s.median), y, `${arm.label}\n${summaryText(s)}`);
          });
        })] },
      }, [range, [0, rows.length - 1]], element);
      hover(u.over, hits);
      return u;
    });
  }

  // Interval and median along one direction; open ends are arrows.
  function whisker(ctx, ratio, s, place, point, [dx, dy], bar = true) {
    const cap = 4.5 * ratio, stroke = (a, b, width) => { ctx.lineWidth = width * ratio; ctx.beginPath(); ctx.moveTo(...a); ctx.lineTo(...b); ctx.stroke(); };
    const across = (v, r, width) => { const [x, y] = point(v); stroke([x - r * dy, y - r * dx], [x + r * dy, y + r * dx], width); };
    const arrow = (v, r) => symbol(ctx, dx ? "arrow_right" : "arrow_up", ...point(v), r * ratio);
    if (s.runs > 1) {
      const low = place(s.low), reachTo = s.high.open ? place(s.high) + (dx - dy) * 12 * ratio : place(s.high);
      stroke(point(low), point(reachTo), 1.6);
      across(low, cap, 1.6);
      if (s.high.open) arrow(reachTo, 4.5); else across(reachTo, cap, 1.6);
    }
    if (s.median.open) arrow(place(s.median), 6.5); else if (bar) across(place(s.median), 7.5 * ratio, 3.2);
  }

  // ---- sweeps -----------------------------------------------------------------------------------------------------
  function sweepChart(element, sweep) {
    const all = sweep.arms.flatMap((arm) => arm.cells.filter(Boolean).flatMap((c) => c.runs.map((r) => Math.max(1, r.to.n))));
    const key = el("div", { class: "key" });
    const area = el("div");
    element.append(key, area);
    for (const arm of sweep.arms) key.append(el("span", {}, swatch(arm), arm.label));
    if (!all.length) return;
    csvButton(element, "sweep", () => [[sweep.axis, "arm", "rate", "seed", `samples to ${sweep.level}`, "reached"],
      ...sweep.values.flatMap((value, i) => sweep.arms.flatMap((arm) => (arm.cells[i]?.runs ?? []).map((r) => [value, arm.label, arm.cells[i].rate, r.seed, r.to.n, !r.to.open])))]);
    const range = padded(Math.min(...all), Math.max(...all));
    range[1] *= (range[1] / range[0]) ** 0.06;
    chart(area, (width) => {
      const hits = [];
      const u = new uPlot({
        width, height: 380, padding: [10, 24, 0, 0], legend: { show: false },
        cursor: { drag: { x: false, y: false }, points: { show: false }, y: false, x: false },
        scales: { x: { time: false, range: [-0.5, sweep.values.length - 0.5] }, y: { distr: 3, range } },
        axes: [
          axis(sweep.axis, each((v) => sweep.values[v] ?? ""), { splits: () => sweep.values.map((v, i) => i), filter: (u, s) => s, grid: { show: false } }),
          { ...logAxis(`samples to ${sweep.level} (logarithmic)`), size: 62 },
        ],
        series: [{}, { scale: "y", paths: () => null, points: { show: false } }],
        hooks: { draw: [(u) => pen(u, (ctx, box, ratio) => {
          hits.length = 0;
          const hit = (x, y, text) => hits.push({ x: (x - box.left) / ratio, y: (y - box.top) / ratio, text });
          sweep.arms.forEach((arm, rank) => {
            ctx.fillStyle = ctx.strokeStyle = colorOf(arm);
            const shift = ((rank - (sweep.arms.length - 1) / 2) * 0.6) / sweep.arms.length;
            let before = null;
            arm.cells.forEach((cell, i) => {
              if (!cell || !cell.summary) { before = null; return; }
              const s = cell.summary, x = u.valToPos(i + shift, "x", true), y = (r) => u.valToPos(Math.max(1, r.n), "y", true);
              ctx.globalAlpha = 0.45;
              for (const run of cell.runs) {
                symbol(ctx, run.to.open ? "arrow_up" : "circle", x - 7 * ratio, y(run.to), (run.to.open ? 3.5 : 2.4) * ratio);
                hit(x - 7 * ratio, y(run.to), `${arm.label}, ${sweep.axis} ${sweep.values[i]}, seed ${run.seed}\n${run.to.open ? "not reached in " : ""}${count(run.to.n)} samples at rate ${cell.rate}`);
              }
              ctx.globalAlpha = 1;
              if (before && !s.median.open) { ctx.lineWidth = 1.8 * ratio; ctx.beginPath(); ctx.moveTo(...before); ctx.lineTo(x, y(s.median)); ctx.stroke(); }
              before = s.median.open ? null : [x, y(s.median)];
              whisker(ctx, ratio, s, y, (v) => [x, v], [0, 1], false);
              if (!s.median.open) symbol(ctx, arm.shape, x, y(s.median), 4.6 * ratio);
              hit(x, y(s.median), `${arm.label}, ${sweep.axis} ${sweep.values[i]}\n${summaryText(s)}\nbest rate ${cell.rate}`);
            });
          });
        })] },
      }, [[-0.5, sweep.values.length - 0.5], range], area);
      hover(u.over, hits);
      return u;
    });
  }

  // ---- figures of the experiment's own ------------------------------------------------------------------------------
  // Panels of marks, as the drawing has them; the drawing itself is hidden. Lines and dots can be read and shown apart.
  const formats = { count, percent: (v) => percent(v).replace(".0%", "%"), plain: (v) => trim(v, 4) };
  function figureChart(element, figure) {
    for (const child of element.children) child.style.display = "none";
    const labels = [...new Set(figure.panels.flatMap((p) => p.series.map((s) => s.label)).filter(Boolean))];
    const hidden = new Set();
    const all = figure.panels.flatMap((p) => p.series);
    // Marks without a name belong to the named series of their colour.
    const nameOfSeries = (s) => s.label || all.find((o) => o.label && o.color === s.color && !o.mark.rule)?.label || "";
    const keys = el("div", { class: "controls arms", role: "group", "aria-label": "Series shown" });
    const caption = (text) => el("p", { class: "caption" }, text);
    const areas = figure.panels.map(() => el("div", { class: "chart" }));
    element.append(el("h3", {}, figure.title), ...(figure.subtitle ? [caption(figure.subtitle)] : []), keys);
    figure.panels.forEach((panel, i) => element.append(...(panel.title ? [el("h4", {}, panel.title)] : []), areas[i]));
    element.append(...figure.notes.map(caption));
    let redraw = () => {};
    for (const label of labels) {
      const button = el("button", { type: "button", "aria-pressed": "true" }, swatch(all.find((s) => s.label === label)), label);
      button.addEventListener("click", () => {
        if (!hidden.delete(label)) hidden.add(label);
        button.setAttribute("aria-pressed", String(!hidden.has(label)));
        redraw();
      });
      keys.append(button);
    }
    csvButton(element, "figure", () => [["panel", "series", "mark", "x", "y", "high"],
      ...figure.panels.flatMap((p) => p.series.flatMap((s) => rowsOf(s.mark).map(([x, y, high]) => [p.title, nameOfSeries(s), Object.keys(s.mark)[0], x, y, high])))]);
    const names = (axis) => axis.scale.categories;
    const say = (axis, v) => (names(axis) ? names(axis)[Math.round(v)] ?? "" : v == null ? "" : formats[axis.format](v));
    const unit = (axis) => axis.label.replace(" (logarithmic)", "").replace(" (log.)", "");
    redraw = chart(element, (width) => figure.panels.map((panel, i) => panelPlot(panel, areas[i], width)));

    function panelPlot(panel, area, width) {
      const hits = [], { x: ax, y: ay } = panel, log = (axis) => axis.scale === "log";
      const shown = panel.series.filter((s) => !hidden.has(nameOfSeries(s)));
      const measure = document.createElement("canvas").getContext("2d");
      measure.font = FONT;
      // One width for all panels, so that their x axes line up.
      const wide = Math.max(20, ...figure.panels.flatMap((p) => p.y.ticks.map(([, text]) => measure.measureText(text).width)));
      const left = Math.min(wide + 20, width * 0.4);
      // Ticks of the drawing until zoomed, without those that would overlap on a narrow page.
      const sides = (axis, horizontal) => {
        const split = (u, i, low, high) => {
          const inside = axis.ticks.filter(([v]) => v >= low && v <= high).map(([v]) => v);
          return inside.length > 1 || names(axis) ? inside : log(axis) ? logSplits(u, i, low, high) : even(low, high);
        };
        const values = (u, splits) => {
          let end = -1e9;
          return splits.map((v) => {
            const text = axis.ticks.find(([t]) => t === v)?.[1] ?? say(axis, v);
            const half = measure.measureText(text).width / 2, at = horizontal ? u.valToPos(v, "x") : 0;
            if (horizontal && at - half < end + 4) return "";
            end = at + half;
            return text;
          });
        };
        return { splits: split, filter: (u, s) => s, values };
      };
      const fit = (text) => { while (text.length > 1 && measure.measureText(text).width > left - 14) text = text.slice(0, -2) + "…"; return text; };
      const yAxis = sides(ay, false), yValues = yAxis.values;
      const u = new uPlot({
        width, height: panel.height + (ax.label ? 62 : 40), padding: [10, 24, 0, 0], legend: { show: false },
        cursor: { drag: { x: !names(ax), y: false }, points: { show: false }, x: false, y: false },
        scales: {
          x: { time: false, distr: log(ax) ? 3 : 1, range: (u, a, b) => (a == null || a === b ? ax.range : [a, b]) },
          y: { distr: log(ay) ? 3 : 1, range: ay.range, dir: names(ay) ? -1 : 1 },
        },
        axes: [
          axis(ax.label || undefined, null, { ...sides(ax, true), grid: { show: !names(ax), stroke: css("--grid"), width: 1 } }),
          axis(ay.label || undefined, null, { ...yAxis, values: (u, s) => yValues(u, s).map(fit), size: left }),
        ],
        series: [{}, { scale: "y", paths: () => null, points: { show: false } }],
        hooks: {
          drawClear: [(u) => pen(u, (ctx, box, ratio) => shown.filter((s) => s.mark.region).forEach((s) => markOf(u, s, ctx, box, ratio)))],
          draw: [(u) => pen(u, (ctx, box, ratio) => {
            hits.length = 0;
            shown.filter((s) => !s.mark.region).forEach((s) => markOf(u, s, ctx, box, ratio));
          })],
        },
      }, [ax.range, ay.range], area);
      hover(u.over, hits);
      return u;

      function markOf(u, s, ctx, box, ratio) {
        const [kind, m] = Object.entries(s.mark)[0];
        const can = (axis, v) => v != null && (!log(axis) || v > 0);
        const clamp = (v, [a, b]) => Math.min(Math.max(v, a), b);
        const X = (v) => u.valToPos(v, "x", true), Y = (v) => u.valToPos(clamp(v, ay.range), "y", true);
        const hit = (x, y, text) => hits.push({ x: (X(x) - box.left) / ratio, y: (Y(y) - box.top) / ratio,
          text: [nameOfSeries(s), `${unit(ax)} ${say(ax, x)}`.trim(), `${unit(ay)} ${text ?? say(ay, y)}`.trim()].filter(Boolean).join("\n") });
        ctx.strokeStyle = ctx.fillStyle = colorOf(s);
        ctx.globalAlpha = s.opacity;
        ctx.lineWidth = (m.width ?? 1.4) * ratio;
        ctx.setLineDash(m.dash === "dashed" ? [7 * ratio, 4 * ratio] : m.dash === "dotted" ? [2 * ratio, 3 * ratio] : []);
        const line = (points) => {
          ctx.beginPath();
          let down = false;
          for (const [x, y] of points) {
            const ok = can(ax, x) && can(ay, y);
            if (ok) ctx[down ? "lineTo" : "moveTo"](X(x), Y(y));
            down = ok;
          }
        };
        const dot = (shape, x, y, r) => {
          if (shape === "bar_vertical" || shape === "bar_horizontal") {
            const [dx, dy] = shape === "bar_vertical" ? [0, r] : [r, 0];
            ctx.lineWidth = 3 * ratio; ctx.beginPath(); ctx.moveTo(x - dx, y - dy); ctx.lineTo(x + dx, y + dy); ctx.stroke();
          } else symbol(ctx, shape, x, y, r);
        };
        if (kind === "line") {
          line(m.points); ctx.stroke();
          if (m.points.length <= 200) m.points.forEach(([x, y]) => { if (can(ax, x) && can(ay, y)) hit(x, y); });
        } else if (kind === "band") {
          const ok = m.points.filter(([x, a, b]) => can(ax, x) && can(ay, a) && can(ay, b));
          line([...ok.map(([x, , b]) => [x, b]), ...ok.reverse().map(([x, a]) => [x, a])]); ctx.fill();
        } else if (kind === "dots") {
          for (const [x, y] of m.points) {
            if (!can(ax, x) || !can(ay, y)) continue;
            dot(m.shape, X(x), Y(y), m.radius * ratio);
            if (!m.filled) { ctx.fillStyle = css("--bg"); symbol(ctx, m.shape, X(x), Y(y), (m.radius - 1.4) * ratio); ctx.fillStyle = colorOf(s); }
            hit(x, y, (m.shape.startsWith("arrow") ? "> " : "") + say(m.shape === "arrow_right" ? ax : ay, m.shape === "arrow_right" ? x : y));
          }
        } else if (kind === "intervals") {
          for (const i of m.spans) {
            const flat = m.along === "x", axis = flat ? ax : ay;
            if (![i.low, i.high].every((v) => can(axis, v)) || !can(flat ? ay : ax, i.at)) continue;
            const bound = (n, open) => ({ n, open });
            const s2 = { runs: 2, low: bound(i.low), high: bound(i.high, i.open), median: bound(i.low) };
            whisker(ctx, ratio, s2, flat ? (r) => X(r.n) : (r) => Y(r.n), flat ? (v) => [v, Y(i.at)] : (v) => [X(i.at), v], flat ? [1, 0] : [0, 1], false);
            const text = `${say(axis, i.low)} to ${i.open ? "> " : ""}${say(axis, i.high)}`;
            if (flat) hit(i.high, i.at); else hit(i.at, i.high, text);
          }
        } else if (kind === "bars") {
          const flat = m.along === "x", base = clamp(0, (flat ? ax : ay).range);
          for (const [at, value] of m.bars) {
            if (!can(flat ? ax : ay, value)) continue;
            const [a, b] = [at - m.thickness / 2, at + m.thickness / 2];
            if (flat) ctx.fillRect(X(base), Y(a), X(value) - X(base), Y(b) - Y(a));
            else ctx.fillRect(X(a), Y(value), X(b) - X(a), Y(base) - Y(value));
            if (flat) hit(value, at); else hit(at, value);
          }
        } else if (kind === "rule") {
          if (!can(m.along === "x" ? ay : ax, m.at)) return;
          ctx.beginPath();
          if (m.along === "x") { ctx.moveTo(box.left, Y(m.at)); ctx.lineTo(box.left + box.width, Y(m.at)); }
          else { ctx.moveTo(X(m.at), box.top); ctx.lineTo(X(m.at), box.top + box.height); }
          ctx.stroke();
        } else if (kind === "region") {
          const [a, b] = [m.from, m.to].map((v) => X(clamp(v ?? ax.range[0], ax.range)));
          ctx.fillRect(a, box.top, Math.max(b - a, 1.5 * ratio), box.height);
        } else if (kind === "text" && can(ax, m.at[0]) && can(ay, m.at[1])) {
          const [dx, dy] = { left: [-6, 0], right: [6, 0], above: [0, -11], below: [0, 12] }[m.side];
          ctx.font = FONT.replace("12px", 11 * ratio + "px");
          ctx.textBaseline = "middle"; ctx.textAlign = dx < 0 ? "right" : dx > 0 ? "left" : "center";
          rimmed(ctx, ratio, m.text, X(m.at[0]) + dx * ratio, Y(m.at[1]) + dy * ratio);
        }
        ctx.globalAlpha = 1;
        ctx.setLineDash([]);
      }
    }
  }
  function even(low, high) {
    const raw = (high - low) / 6, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
    const splits = [];
    for (let i = Math.ceil(low / step); i * step <= high; i++) splits.push(Number((i * step).toPrecision(12)));
    return splits;
  }
  // A mark as rows of x, y and, for a band or an interval, its high end.
  function rowsOf(mark) {
    const [kind, m] = Object.entries(mark)[0];
    if (kind === "line" || kind === "dots" || kind === "band") return m.points;
    if (kind === "bars") return m.bars.map(([at, v]) => (m.along === "x" ? [v, at] : [at, v]));
    if (kind === "intervals") return m.spans.map((i) => [i.at, i.low, i.open ? "" : i.high]);
    if (kind === "rule") return [m.along === "x" ? ["", m.at] : [m.at, ""]];
    return [];
  }

  // ---- page -------------------------------------------------------------------------------------------------------
  for (const button of document.querySelectorAll("[data-copy]"))
    button.addEventListener("click", async () => {
      const source = $(button.dataset.copy);
      try {
        await navigator.clipboard.writeText(source.textContent);
        button.textContent = "Copied";
      } catch {
        // Not every way of opening a file allows it: select the text instead.
        getSelection().selectAllChildren(source);
        button.textContent = "Selected: press Ctrl+C";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2500);
    });

  const present = (id, draw) => { const node = $(id); if (node) draw(node); };
  present("accuracy-chart", accuracyChart);
  present("correlation-charts", correlationCharts);
  present("samples-chart", samplesChart);
  for (const node of document.querySelectorAll("[data-figure]")) figureChart(node, data.figures[Number(node.dataset.figure)]);
  if (data.live) setTimeout(() => location.reload(), 15000);
  for (const node of document.querySelectorAll("[data-sweep]")) sweepChart(node, data.sweeps[Number(node.dataset.sweep)]);

  let timer = 0, width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(timer);
    timer = setTimeout(redrawAll, 120);
  });
  dark.addEventListener("change", redrawAll);
  // Ink on paper, whatever the screen's theme.
  let closed = [];
  addEventListener("beforeprint", () => {
    root.classList.add("force-light");
    // Paper cannot be unfolded.
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const details of closed) details.open = true;
    redrawAll();
  });
  addEventListener("afterprint", () => {
    root.classList.remove("force-light");
    for (const details of closed) details.open = false;
    redrawAll();
  });
  // uPlot paints in a microtask: ready once the first frame is out.
  requestAnimationFrame(() => setTimeout(() => { if (!root.dataset.ready) root.dataset.ready = "true"; }, 0));
})();
