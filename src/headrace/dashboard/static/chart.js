// Charts over time, drawn by hand as SVG: means as lines, counts as step lines.

const BOX = { left: 56, right: 12, top: 10, bottom: 26, width: 900, height: 260 };
const GAP_MS = 3500; // no point for so long: nobody was there to measure, so no line is drawn

const SVG = "http://www.w3.org/2000/svg";

/** Points that are known, and new ones, one each by time, the last `keptS` seconds of them. */
export function mergePoints(known, fresh, keptS) {
  const byTime = new Map([...known, ...fresh].map((point) => [point.at_ms, point]));
  const points = [...byTime.values()].sort((a, b) => a.at_ms - b.at_ms);
  const since = points.length ? points.at(-1).at_ms - keptS * 1000 : 0;
  return points.filter((point) => point.at_ms >= since);
}

/** Each point's mean of `name` over the `seconds` that end with it. */
export function trailingMeans(points, name, seconds) {
  const means = [];
  let first = 0;
  let sum = 0;
  points.forEach((point, place) => {
    sum += point[name];
    while (points[first].at_ms <= point.at_ms - seconds * 1000) sum -= points[first++][name];
    means.push(Math.max(0, sum / (place - first + 1)));
  });
  return means;
}

/** The smallest round number at or above `value`: 1, 2 or 5 times a power of ten. */
export function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999999);
}

/**
 * Draws `lines` into `svg`, up to `least` or more; returns in words what it shows at its right end.
 *
 * A line: `kind` (its class), `field` of the points, `words` for it, and `steps` where it holds until the next point;
 * otherwise its means over `meanS` are drawn.
 */
export function drawChart(svg, points, lines, { least, unit, nowMs, shownS, meanS }) {
  const drawn = lines.map((line) => ({
    ...line,
    values: line.steps ? points.map((point) => point[line.field]) : trailingMeans(points, line.field, meanS),
  }));
  const fromMs = nowMs - shownS * 1000;
  const shown = points.map((point, place) => place).filter((place) => points[place].at_ms >= fromMs);
  const most = Math.max(least, ...shown.flatMap((place) => drawn.map((line) => line.values[place])));
  const step = roundUp(most / 4);
  const top = Math.ceil((most * 1.02) / step) * step;
  const x = (ms) => BOX.left + ((ms - fromMs) / (shownS * 1000)) * (BOX.width - BOX.left - BOX.right);
  const y = (value) => BOX.height - BOX.bottom - (value / top) * (BOX.height - BOX.top - BOX.bottom);
  svg.replaceChildren(
    ...grid(x, y, { top, step, nowMs, shownS }),
    ...drawn.flatMap((line) => stretches(points, shown, line, x, y)),
  );
  const last = shown.at(-1);
  if (last === undefined) return "Nothing was measured in this time.";
  const round = (value) => value.toLocaleString("en-US", { maximumFractionDigits: 1 });
  return `At the end: ${drawn.map((line) => `${line.words} ${round(line.values[last])}`).join(", ")} ${unit}.`;
}

function grid(x, y, { top, step, nowMs, shownS }) {
  const parts = [];
  for (let value = 0; value <= top + step / 2; value += step) {
    parts.push(shape("line", { class: "grid", x1: BOX.left, x2: BOX.width - BOX.right, y1: y(value), y2: y(value) }));
    parts.push(label(BOX.left - 8, y(value) + 4, value.toLocaleString("en-US"), "end"));
  }
  for (let ago = shownS; ago >= 0; ago -= 60) {
    const words = ago === 0 ? "now" : `${ago / 60} min ago`;
    const anchor = ago === 0 ? "end" : ago === shownS ? "start" : "middle";
    parts.push(label(x(nowMs - ago * 1000), BOX.height - 6, words, anchor));
  }
  return parts;
}

/** One polyline for each stretch without a gap. */
function stretches(points, shown, { kind, values, steps }, x, y) {
  const found = [];
  let before = null;
  for (const place of shown) {
    const { at_ms: ms } = points[place];
    if (before === null || ms - points[before].at_ms > GAP_MS) found.push([]);
    else if (steps) found.at(-1).push([x(ms), y(values[before])]);
    found.at(-1).push([x(ms), y(values[place])]);
    before = place;
  }
  return found.map((stretch) => shape("polyline", {
    class: kind,
    points: stretch.map(([across, down]) => `${across.toFixed(1)},${down.toFixed(1)}`).join(" "),
  }));
}

function shape(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function label(across, down, words, anchor) {
  const text = shape("text", { x: across, y: down, "text-anchor": anchor });
  text.textContent = words;
  return text;
}
