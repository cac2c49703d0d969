"use strict";
// Draws the charts of the page: each element with data-chart has an entry in the JSON of #data. Needs d3 and Plot.
(() => {
  const charts = JSON.parse(document.getElementById("data").textContent);
  const ink = "currentColor", soft = "var(--soft)", accent = "var(--accent)";
  const good = "var(--good)", bad = "var(--bad)", open = "var(--open)", line = "var(--line)";
  const tones = { pass: good, fail: bad, open };

  const digits = (value) => (value >= 99.95 ? d3.format(",.0f") : d3.format(".3~g"))(value);
  const UNITS = [[1e6, "s"], [1e3, "ms"], [1, "µs"], [1e-3, "ns"]];
  function time(us) {
    if (!us) return "0";
    const [size, name] = UNITS.find(([size]) => Math.abs(us) >= size * 0.9995) || UNITS[3];
    return `${digits(us / size)} ${name}`;
  }
  const SIZES = [[2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [1, "B"]];
  function bytes(value) {
    const [size, name] = SIZES.find(([size]) => Math.abs(value) >= size * 0.9995) || SIZES[3];
    return `${digits(value / size)} ${name}`;
  }
  const count = (value) => (value < 1e4 ? digits(value) : d3.format(".3~s")(value));
  const shown = { 1: digits, s: (v) => time(v * 1e6), B: bytes, "B/s": (v) => `${bytes(v)}/s`, "samples/s": count };
  const SUPER = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷", 8: "⁸", 9: "⁹" };
  const power = (log) => Math.abs(log) > 3 ? `10${[...String(log)].map((c) => SUPER[c]).join("")}` : d3.format(",.3~r")(10 ** log);
  const text = { fill: ink, stroke: "var(--card)", strokeWidth: 4, paintOrder: "stroke" };

  // Ticks of a logarithmic axis that do not touch each other.
  function logTicks([low, high], width) {
    const wanted = Math.max(2, Math.floor(width / 75));
    if (high / low < 3) return d3.ticks(low, high, wanted);
    for (const steps of [[1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]]) {
      const found = [];
      for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++) {
        found.push(...steps.map((step) => step * 10 ** e).filter((tick) => tick >= low && tick <= high));
      }
      if (found.length <= wanted && found.length >= 2) return found;
    }
    const decades = d3.range(Math.ceil(Math.log10(low)), Math.log10(high) + 1e-9);
    if (decades.length >= 2) return decades.filter((_, i) => i % Math.ceil(decades.length / wanted) === 0).map((e) => 10 ** e);
    return [low, high];
  }

  // Its axes: with the texts given, because D3 leaves some out where an axis is logarithmic.
  const axisX = (ticks, text) => Plot.axisX(ticks, { text });
  const axisY = (ticks, text) => Plot.axisY(ticks, { text });

  // All marks of one layer as one path: hundreds of elements take a browser several times as long.
  const merged = (part, attributes) => ({
    render: (index, _scales, values) => {
      const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      const at = (name) => (i) => values[name][i].toFixed(1), places = ["x", "y", "x1", "y1", "x2", "y2"].map((name) => values[name] && at(name));
      path.setAttribute("d", Array.from(index, (i) => part(...places.map((place) => place && place(i)))).join(""));
      for (const [name, value] of Object.entries({ fill: "none", ...attributes })) path.setAttribute(name, value);
      return path;
    },
  });
  const filled = (r, fill) => merged((x, y) => `M${x},${y}h0`, { stroke: fill, "stroke-width": 2 * r, "stroke-linecap": "round" });
  const hollow = (r, stroke) => merged((x, y) => `M${x - r},${y}a${r},${r} 0 1 0 ${2 * r},0a${r},${r} 0 1 0 ${-2 * r},0`, { stroke, "stroke-width": 1.7 });
  const sticks = (stroke, opacity, width) => merged((x, _y, _x1, y1, _x2, y2) => `M${x},${y1}V${y2}`, { stroke, "stroke-opacity": opacity, "stroke-width": width });
  const bars = (fill, opacity) => merged((_x, _y, x1, y1, x2, y2) => `M${x1},${y1}H${x2}V${y2}H${x1}Z`, { fill, "fill-opacity": opacity });

  // Of each kind of chart, in pixels: its place is kept before it is drawn.
  const heights = {
    scale: () => 26, pairs: () => 215, evidence: () => 215, ranks: () => 250, stages: () => 30, roofline: ({ sides }) => 40 + 30 * sides.length,
    latencies: ({ sides }) => 46 + (sides.length > 1 ? 96 : 150) * sides.length,
    timeline: ({ sides }) => 54 + (sides.length > 1 ? 100 : 150) * sides.length,
  };

  // One claim against its threshold: the middle is the threshold, to the right is better.
  function scale({ low, mid, high, most, tone }, width) {
    const x = (log) => Math.max(-most, Math.min(most, log));
    const color = tones[tone], ends = [];
    if (low < -most) ends.push({ at: -most, sign: "◂" });
    if (high > most) ends.push({ at: most, sign: "▸" });
    return Plot.plot({
      width, height: heights.scale(), margin: 0, marginLeft: 9, marginRight: 9, axis: null, x: { domain: [-most, most] }, y: { domain: [-1, 1] },
      marks: [
        Plot.ruleY([0], { stroke: line }),
        Plot.ruleX([0], { stroke: ink, strokeWidth: 1.5 }),
        Plot.link([0], { x1: x(low), x2: x(high), y1: 0, y2: 0, stroke: color, strokeWidth: 5, strokeOpacity: 0.45 }),
        Plot.text(ends, { x: "at", y: 0, text: "sign", fill: color, fontSize: 13 }),
        Plot.dot([0], { x: x(mid), y: 0, r: 5, fill: color, stroke: "var(--card)", strokeWidth: 1.5 }),
      ],
    });
  }

  // What each pair or trial measured, with the threshold, and the interval of all.
  function pairs({ values, lows, highs, each, needed, low, mid, high, at_least, unit, log, one }, width) {
    const show = shown[unit], points = values.map((y, i) => ({ y, i: i * each + 1, low: lows && lows[i], high: highs && highs[i] }));
    const right = (d) => (at_least ? d.y >= needed : d.y <= needed);
    const all = [...values, ...(lows || []), ...(highs || []), needed].filter((v) => v > 0 || !log);
    const [least, most] = d3.extent(all), pad = log ? (most / least) ** 0.08 || 1.05 : (most - least) * 0.08 || 0.1;
    const domain = log ? [least / Math.max(pad, 1.02), most * Math.max(pad, 1.02)] : [least - pad, most + pad];
    const size = values.length > 100 ? 2.2 : 3.2, last = values.length * each + 0.5, ticks = log ? logTicks(domain, 300) : d3.ticks(...domain, 5);
    const title = (d) => `${one} ${d.i}${each > 1 ? ` to ${d.i + each - 1}` : ""}: ${show(d.y)}` + (lows ? ` (${show(d.low)} to ${show(d.high)})` : "");
    return Plot.plot({
      width, height: heights.pairs(), marginLeft: 62, marginTop: 10, marginRight: 12, marginBottom: 34,
      x: { domain: [0.5, last], label: `${one} →`, ticks: Math.min(values.length * each, Math.max(3, width / 70)), tickFormat: (v) => Number.isInteger(v) ? d3.format(",")(v) : "" },
      y: { domain, type: log ? "log" : "linear", label: null, ticks, grid: true },
      marks: [
        axisY(ticks, show),
        Plot.rect([0], { x1: 0.5, x2: last, y1: Math.max(domain[0], low ?? domain[0]), y2: Math.min(domain[1], high ?? domain[1]), fill: accent, fillOpacity: 0.13 }),
        mid === null ? null : Plot.ruleY([mid], { stroke: accent, strokeWidth: 1.5 }),
        lows ? Plot.ruleX(points, { x: "i", y1: "low", y2: "high", ...sticks(soft, 0.4, 1) }) : null,
        Plot.dot(points, { x: "i", y: "y", filter: right, ...filled(size, accent) }),
        Plot.dot(points, { x: "i", y: "y", filter: (d) => !right(d), ...hollow(size, bad) }),
        Plot.ruleY([needed], { stroke: ink, strokeWidth: 1.8, strokeDasharray: "6 4" }),
        Plot.tip(points, Plot.pointer({ x: "i", y: "y", title, fill: "var(--card)", stroke: line })),
      ],
    });
  }

  // The e-values for PASS and for FAIL, on a logarithmic scale.
  function evidence({ pass, fail, each, enough, one }, width) {
    const rows = (logs) => logs.map((y, i) => ({ i: (i + 1) * each, y: y ?? -1 })), floor = -1;
    const most = Math.max(enough, ...pass.map((v) => v ?? -1), ...fail.map((v) => v ?? -1));
    const last = Math.max(2, pass.length * each), clip = (d) => Math.max(floor, d.y);
    const title = (d) => `after ${one} ${d.i}: ${power(Math.round(d.y * 10) / 10)}`;
    return Plot.plot({
      width, height: heights.evidence(), marginLeft: 62, marginTop: 10, marginRight: 12, marginBottom: 34,
      x: { domain: [1, last], label: `${one} →`, ticks: Math.min(last - 1, Math.max(3, width / 70)), tickFormat: (v) => Number.isInteger(v) ? d3.format(",")(v) : "" },
      y: { domain: [floor, most * 1.08], label: null, grid: true, ticks: d3.ticks(floor, most, 5).filter(Number.isInteger), tickFormat: power },
      marks: [
        Plot.ruleY([enough], { stroke: ink, strokeWidth: 1.8, strokeDasharray: "6 4" }),
        Plot.line(rows(pass), { x: "i", y: clip, stroke: good, strokeWidth: 2.4, curve: "step-after" }),
        Plot.line(rows(fail), { x: "i", y: clip, stroke: bad, strokeWidth: 2.4, curve: "step-after" }),
        Plot.dot([rows(pass).at(-1)], { x: "i", y: clip, fill: good, r: 4 }),
        Plot.dot([rows(fail).at(-1)], { x: "i", y: clip, fill: bad, r: 4 }),
        Plot.tip([...rows(pass), ...rows(fail)], Plot.pointer({ x: "i", y: clip, title, fill: "var(--card)", stroke: line })),
      ],
    });
  }

  const room = (sides) => Math.min(110, 12 + 7.2 * Math.max(...sides.map((side) => side.name.length)));
  const fitted = (name, px) => { const most = Math.floor((px - 6) / 6.4); return name.length <= most ? name : most < 3 ? "" : `…${name.slice(1 - most)}`; };
  const label = (side) => (side.name.length > 14 ? `${side.name.slice(0, 13)}…` : side.name);

  // How long batches take: a histogram of each loader over one logarithmic axis of time.
  function latencies({ sides }, width) {
    const spread = sides.flatMap((side) => {
      const most = Math.max(...side.counts);
      const [low, high] = side.ends, edge = (i) => low * (high / low) ** (i / side.counts.length);
      return side.counts.map((n, i) => ({ side: label(side), x1: edge(i), x2: edge(i + 1), y: Math.sqrt(n / most), n }));
    }).filter((bar) => bar.n);
    const domain = [d3.min(spread, (d) => d.x1), d3.max(spread, (d) => d.x2)];
    if (domain[1] / domain[0] < 1.3) { domain[0] /= 1.2; domain[1] *= 1.2; }
    const marks = sides.flatMap((side) => side.quantiles.map(([name, us]) => ({ side: label(side), name, us })));
    const left = room(sides), ticks = logTicks(domain, width - left);
    return Plot.plot({
      width, height: heights.latencies({ sides }), marginLeft: left, marginRight: 16, marginBottom: 30, marginTop: 8,
      x: { type: "log", domain, label: null },
      y: { axis: null, domain: [0, 1.32] }, fy: { axis: null, domain: sides.map(label), padding: 0.12 },
      marks: [
        Plot.text(sides, { fy: label, frameAnchor: "left", text: label, dx: -left + 4, textAnchor: "start", fontSize: 12, fontWeight: 600, fill: ink }),
        axisX(ticks, time),
        Plot.gridX(ticks, { stroke: line, strokeOpacity: 0.7 }),
        Plot.rect(spread, { fy: "side", x1: "x1", x2: "x2", y1: 0, y2: "y", ...bars(accent, 0.6) }),
        Plot.ruleY(sides, { fy: label, y: 0, stroke: soft }),
        Plot.ruleX(marks, { fy: "side", x: "us", y1: 0, y2: 1.06, stroke: ink, strokeWidth: 1.4 }),
        Plot.text(marks, { fy: "side", x: "us", y: 1.2, text: "name", fontSize: 10.5, ...text }),
        Plot.tip(spread, Plot.pointerX({ fy: "side", x: (d) => Math.sqrt(d.x1 * d.x2), y: "y", title: (d) => `${time(d.x1)} to ${time(d.x2)}: ${d3.format(",")(d.n)} batches`, fill: "var(--card)", stroke: line })),
      ],
    });
  }

  // Batches over time: the typical and the longest of each few, and all stalls.
  function timeline({ sides }, width) {
    const points = sides.flatMap((side) => side.starts.map((t, i) => ({ side: label(side), t: t / 1e3, typical: side.typical[i], longest: side.longest[i] })));
    const stalls = sides.flatMap((side) => side.stalls.map(([t, us]) => ({ side: label(side), t: t / 1e3, us })));
    const domain = [Math.max(1e-3, d3.min(points, (d) => d.typical)), d3.max(points, (d) => d.longest)];
    if (domain[1] / domain[0] < 3) { domain[0] /= 2; domain[1] *= 2; }
    const left = Math.max(62, room(sides)), ticks = logTicks(domain, 210);
    return Plot.plot({
      width, height: heights.timeline({ sides }), marginLeft: left, marginRight: 16, marginBottom: 34, marginTop: 20,
      x: { label: "seconds of measuring →", ticks: Math.max(3, width / 90) },
      y: { type: "log", domain: [domain[0] / 1.15, domain[1] * 1.3], label: null, grid: true, ticks },
      fy: { axis: null, domain: sides.map(label), padding: 0.24 },
      marks: [
        axisY(ticks, time),
        Plot.ruleX(points, { fy: "side", x: "t", y1: "typical", y2: "longest", ...sticks(accent, 0.3, 1.4) }),
        Plot.dot(points, { fy: "side", x: "t", y: "typical", ...filled(1.7, accent) }),
        Plot.dot(stalls, { fy: "side", x: "t", y: "us", r: 3.4, symbol: "triangle", fill: bad }),
        Plot.text(sides, { fy: label, frameAnchor: "top-left", text: label, dx: -4, dy: -11, textAnchor: "start", fontSize: 12, fontWeight: 600, ...text }),
        Plot.tip(stalls, Plot.pointer({ fy: "side", x: "t", y: "us", title: (d) => `a stall of ${time(d.us)} at ${d.t.toFixed(2)} s`, fill: "var(--card)", stroke: line })),
      ],
    });
  }

  // Each loader's share of the machine's copy limit.
  function roofline({ sides }, width) {
    const limit = 1, domain = d3.extent([...sides.map((d) => d.value), limit]);
    domain[0] /= 1.6; domain[1] *= 1.25;
    const left = room(sides), ticks = logTicks(domain, width - left);
    return Plot.plot({
      width, height: heights.roofline({ sides }), marginLeft: left, marginRight: 30, marginBottom: 32, marginTop: 6,
      x: { type: "log", domain, label: "of the limit →", ticks, grid: true },
      y: { domain: sides.map(label), label: null, axis: null },
      marks: [
        axisX(ticks, (share) => `${digits(share * 100)} %`),
        Plot.text(sides, { y: label, frameAnchor: "left", text: label, dx: -left + 4, textAnchor: "start", fontSize: 12, fontWeight: 600, fill: ink }),
        Plot.ruleY(sides, { y: label, x1: domain[0], x2: limit, stroke: line, strokeWidth: 8 }),
        Plot.ruleY(sides, { y: label, x1: domain[0], x2: "value", stroke: accent, strokeWidth: 8 }),
        Plot.ruleX([limit], { stroke: ink, strokeWidth: 2.4 }),
        Plot.text(sides, { y: label, x: "value", text: "share", dx: 7, textAnchor: "start", fontSize: 11.5, ...text }),
      ],
    });
  }

  // Throughput of each rank. Where ranks of another host begin there is a line, with its name if there is room.
  function ranks({ parts, median, slowest, tone }, width) {
    const rows = parts.map((part, i) => ({ ...part, i })), n = rows.length, left = 62, right = 12, step = (width - left - right) / n;
    const most = d3.max(rows, (d) => Math.max(d.value, Number.isFinite(d.high) ? d.high : 0)), ticks = d3.ticks(0, most, 5);
    const firsts = rows.filter((d) => !d.i || d.host !== rows[d.i - 1].host), several = firsts.length > 1;
    const all = new Set(parts.map((part) => part.host)), short = (host) => host.split(".")[0]; // without the domain, if that tells hosts apart
    const named = new Set([...all].map(short)).size === all.size ? short : (host) => host;
    const hosts = firsts.map((d, i) => ({ ...d, room: ((firsts[i + 1]?.i ?? n) - d.i) * step })).map((d) => ({ ...d, text: fitted(named(d.host), d.room) }));
    const every = Math.ceil(26 / step), at = (d) => d.i, slow = rows.filter((d) => d.rank === slowest), half = Math.min(0.36, 30 / step);
    const title = (d) => `rank ${d.rank} on ${d.host}: ${count(d.value)} samples/s` + (d.low !== null && d.high !== null ? ` (${count(d.low)} to ${count(d.high)})` : "");
    return Plot.plot({
      width, height: heights.ranks({ parts }), marginLeft: left, marginTop: several ? 26 : 14, marginRight: right, marginBottom: 34,
      x: { domain: [-0.5, n - 0.5], label: "rank →" }, y: { domain: [0, most * 1.1 || 1], label: null, ticks, grid: true },
      marks: [
        axisY(ticks, count),
        Plot.axisX(rows.filter((d) => d.i % every === 0).map(at), { tickFormat: (i) => String(rows[i].rank), tickSize: 3 }),
        Plot.rect(rows, { x1: (d) => d.i - half, x2: (d) => d.i + half, y1: 0, y2: "value", ...bars(accent, 0.6) }),
        Plot.ruleX(rows, { x: at, y1: "low", y2: "high", filter: (d) => d.low !== null && d.high !== null, ...sticks(ink, 0.75, 1.3) }),
        Plot.ruleY([median], { stroke: ink, strokeWidth: 1.5, strokeDasharray: "6 4" }),
        several ? Plot.ruleX(firsts.slice(1), { x: (d) => d.i - 0.5, stroke: soft, strokeOpacity: 0.6 }) : null,
        several ? Plot.text(hosts, { x: (d) => d.i - 0.5, frameAnchor: "top", text: "text", dx: 3, dy: -16, textAnchor: "start", fontSize: 10.5, ...text, fill: soft }) : null,
        Plot.text(slow, { x: at, y: (d) => Math.max(d.value, d.high ?? 0), text: () => "▼", dy: -8, fontSize: 12, ...text, fill: tones[tone] || ink }),
        Plot.tip(rows, Plot.pointerX({ x: at, y: "value", title, fill: "var(--card)", stroke: line })),
      ],
    });
  }

  // The parts of a batch's time.
  function stages({ parts }, width) {
    return Plot.plot({
      width, height: heights.stages(), margin: 0, x: { domain: [0, 1], axis: null }, y: { axis: null }, axis: null,
      marks: [
        Plot.rectX(parts, { x1: "from", x2: "to", y1: 0, y2: 1, fill: accent, fillOpacity: (d, i) => 1 - 0.72 * (i / Math.max(1, parts.length - 1)), stroke: "var(--card)", strokeWidth: 2 }),
      ],
    });
  }

  const kinds = { scale, pairs, evidence, latencies, timeline, roofline, ranks, stages };
  const boxes = [...document.querySelectorAll("[data-chart]")], widths = new WeakMap();
  for (const box of boxes) {
    const chart = charts[box.dataset.chart];
    box.style.minHeight = `${heights[chart.kind](chart)}px`;
  }

  // Widths are all read before anything is drawn: each look after a change would lay out the page again.
  const sized = (some) => some.map((box) => [box, Math.floor(box.clientWidth)]);
  function draw([box, width]) {
    if (!width || widths.get(box) === width) return; // not shown, or drawn already
    widths.set(box, width);
    const { kind, ...chart } = charts[box.dataset.chart];
    box.replaceChildren(kinds[kind](chart, width));
  }
  // A chart is drawn when it is on screen, or less than one screen away.
  const near = new IntersectionObserver(
    (seen) => sized(seen.filter((one) => one.isIntersecting).map((one) => one.target)).forEach(draw), { rootMargin: "100% 0px" });
  const watch = () => { near.disconnect(); boxes.forEach((box) => near.observe(box)); };
  const onScreen = (box) => { const { top, bottom } = box.getBoundingClientRect(); return bottom > 0 && top < innerHeight; };
  sized(boxes.filter(onScreen)).forEach(draw); // at once, also for what takes a picture of the page
  watch();

  let resized;
  addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(watch, 120); });
  function show(target) {
    for (let part = target; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
    if (target) target.scrollIntoView();
  }
  const linked = () => { if (location.hash.length > 1) show(document.getElementById(location.hash.slice(1))); };
  addEventListener("hashchange", linked);
  linked();
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((part) => { part.open = true; });
    sized(boxes).forEach(draw);
  });
})();
