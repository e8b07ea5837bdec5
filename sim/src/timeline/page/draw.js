// Draws the panes. Only what is in the shown part of the time is drawn, and of what falls onto the same pixel only one.

let COLOUR = {};
const FONT = '12px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", "DejaVu Sans", sans-serif';
const SMALL = FONT.replace('12px', '11px');
const BOLD = `600 ${FONT}`;
const WIDTHS = new Map();
const MOST_ARROWS = 6000;

function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = ['paper', 'panel', 'band', 'line', 'faint', 'ink', 'soft', 'focus', 'bad', 'bad-paper', 'cell', 'apart', 'unknown'];
  for (let place = 0; place < 12; place += 1) names.push(`c${place}`);
  COLOUR = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

function widthOf(context, text) {
  const key = context.font + text;
  let width = WIDTHS.get(key);
  if (width === undefined) {
    width = context.measureText(text).width;
    if (WIDTHS.size > 20000) WIDTHS.clear();
    WIDTHS.set(key, width);
  }
  return width;
}

/** The beginning of a text that fits; nothing if not even three characters do. */
function fitting(context, text, width) {
  if (widthOf(context, text) <= width) return text;
  let [low, high] = [0, text.length];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (widthOf(context, `${text.slice(0, middle)}…`) <= width) low = middle;
    else high = middle - 1;
  }
  return low < 3 ? '' : `${text.slice(0, low)}…`;
}

function gutterOf(width) {
  return width < 560 ? 86 : 138;
}

/** Gives the canvas of a pane its size. */
function resize(pane) {
  const width = pane.canvas.parentElement.clientWidth - 2;
  const ratio = window.devicePixelRatio || 1;
  pane.width = Math.max(width, 200);
  pane.gutter = gutterOf(pane.width);
  for (const [canvas, height] of [[pane.canvas, pane.height], [pane.overview, 34]]) {
    if (!canvas) continue;
    canvas.style.height = `${height}px`;
    canvas.width = Math.round(pane.width * ratio);
    canvas.height = Math.round(height * ratio);
  }
}

let isDue = false;
function redraw() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    PANES.forEach(draw);
  });
}

function draw(pane) {
  const context = pane.canvas.getContext('2d');
  const ratio = window.devicePixelRatio || 1;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.textBaseline = 'middle';
  const { width, height, gutter } = pane;
  const scale = (width - gutter) / (VIEW.to - VIEW.from);
  pane.x = (at) => gutter + (at - VIEW.from) * scale;
  pane.at = (x) => VIEW.from + (x - gutter) / scale;
  pane.hits = [];
  pane.labels = [];
  context.fillStyle = COLOUR.paper;
  context.fillRect(0, 0, width, height);
  drawBands(context, pane);
  context.save();
  context.beginPath();
  context.rect(gutter, 0, width - gutter, height);
  context.clip();
  drawGrid(context, pane);
  drawArrows(context, pane);
  drawLanes(context, pane);
  pane.wide.rows.forEach((row) => drawRow(context, pane, row));
  drawMoments(context, pane);
  drawVertical(context, pane);
  drawTouches(context, pane);
  drawChosen(context, pane);
  context.restore();
  drawGutter(context, pane);
  drawRuler(context, pane);
  drawOverview(pane);
}

function drawBands(context, pane) {
  for (const lane of pane.lanes.filter((one) => one.isShown)) {
    context.fillStyle = COLOUR.band;
    context.fillRect(0, lane.y, pane.width, lane.height);
  }
}

/** Round times, at least so many pixels from each other. */
function ticks(pane, pixels) {
  const least = ((VIEW.to - VIEW.from) / (pane.width - pane.gutter)) * pixels;
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= least);
  const found = [];
  for (let at = Math.ceil(Math.max(VIEW.from, 0) / step) * step; at <= VIEW.to; at += step) found.push(at);
  return { step, found };
}

function drawGrid(context, pane) {
  context.strokeStyle = COLOUR.faint;
  context.lineWidth = 1;
  context.beginPath();
  for (const at of ticks(pane, 90).found) {
    const x = Math.round(pane.x(at)) + 0.5;
    context.moveTo(x, SIZE.ruler);
    context.lineTo(x, pane.height);
  }
  context.stroke();
}

function drawRuler(context, pane) {
  context.fillStyle = COLOUR.panel;
  context.fillRect(0, 0, pane.width, SIZE.ruler - 3);
  context.font = SMALL;
  context.fillStyle = COLOUR.soft;
  const { step, found } = ticks(pane, 90);
  const digits = step >= 1000 ? 0 : step >= 100 ? 1 : step >= 10 ? 2 : 3;
  context.textAlign = 'center';
  for (const at of found) {
    const x = pane.x(at);
    if (x > pane.gutter + 24 && x < pane.width - 24) context.fillText(inMs(at, digits), x, 12);
  }
  context.textAlign = 'left';
  context.fillText(pane.gutter > 100 ? 'simulated ms' : 'ms', 8, 12);
}

function drawGutter(context, pane) {
  const { gutter } = pane;
  context.fillStyle = COLOUR.paper;
  context.fillRect(0, SIZE.ruler - 3, gutter - 4, pane.height);
  context.textAlign = 'left';
  if (pane.wide.rows.length > 0) {
    context.font = BOLD;
    context.fillStyle = COLOUR.c0;
    context.fillText('faults', 8, pane.wide.y + SIZE.bar / 2);
  }
  for (const lane of pane.lanes.filter((one) => one.isShown)) {
    context.fillStyle = COLOUR.band;
    context.fillRect(0, lane.y, gutter - 4, lane.height);
    context.font = BOLD;
    context.fillStyle = COLOUR.ink;
    context.fillText(fitting(context, lane.name, gutter - 16), 8, lane.rows.length ? lane.y + 13 : lane.strip);
  }
  context.strokeStyle = COLOUR.line;
  context.beginPath();
  context.moveTo(gutter - 3.5, SIZE.ruler - 3);
  context.lineTo(gutter - 3.5, pane.height);
  context.stroke();
}

/** The part of a row that is in view. Items of a row do not overlap, so their ends are in order, too. */
function visible(row) {
  const { items } = row;
  const first = lowerBound(items.length, (place) => endOf(items[place]), VIEW.from);
  const last = lowerBound(items.length, (place) => items[place].start, VIEW.to);
  return [first, last];
}

function tint(colour, opacity) {
  return { colour, opacity };
}

function fillOf(item) {
  if (item.outcome === 'refused') return tint(COLOUR.bad, 0.85);
  if (item.outcome === 'unknown' || item.outcome === 'failed') return tint(COLOUR.unknown, 0.75);
  if (item.outcome === 'interrupted') return tint(COLOUR[`c${item.colour}`], 0.35);
  return tint(COLOUR[`c${item.colour}`], item.shape === 'bar' ? 0.3 : 0.72);
}

function drawLanes(context, pane) {
  for (const item of pane.wide.rows.flatMap((row) => row.items)) {
    if (!item.affects || item.start > VIEW.to || endOf(item) < VIEW.from) continue;
    const [left, right] = [Math.max(pane.x(item.start), pane.gutter), Math.min(pane.x(endOf(item)), pane.width)];
    context.fillStyle = COLOUR.c0;
    context.globalAlpha = 0.08;
    for (const number of item.affects) {
      const lane = pane.lanes[number];
      if (lane.isShown) context.fillRect(left, lane.y, Math.max(right - left, 1), lane.height);
    }
    context.globalAlpha = 1;
  }
  for (const lane of pane.lanes.filter((one) => one.isShown)) {
    context.strokeStyle = COLOUR.line;
    context.setLineDash([2, 4]);
    context.beginPath();
    context.moveTo(pane.gutter, lane.strip);
    context.lineTo(pane.width, lane.strip);
    context.stroke();
    context.setLineDash([]);
    for (const life of lane.lives) drawLife(context, pane, lane, life);
    lane.rows.forEach((row) => drawRow(context, pane, row));
  }
}

function drawLife(context, pane, lane, life) {
  if (life.start > VIEW.to || endOf(life) < VIEW.from) return;
  const [left, right] = [pane.x(life.start), pane.x(endOf(life))];
  const [from, to] = [Math.max(left, pane.gutter - 2), Math.min(right, pane.width + 2)];
  const y = lane.strip - SIZE.strip / 2;
  context.fillStyle = COLOUR.c1;
  context.fillRect(from, y, Math.max(to - from, 2), SIZE.strip);
  pane.hits.push({ item: life, box: [from, y - 2, Math.max(to - from, 4), SIZE.strip + 4], weak: true });
  if (life.end !== undefined && right <= pane.width + 8) {
    const isKilled = life.outcome === 'interrupted';
    context.strokeStyle = isKilled ? COLOUR.bad : COLOUR.c1;
    context.lineWidth = 2;
    context.beginPath();
    const size = 5;
    context.moveTo(right - size, lane.strip - size);
    context.lineTo(right + size, lane.strip + size);
    context.moveTo(right - size, lane.strip + size);
    context.lineTo(right + size, lane.strip - size);
    context.stroke();
    context.lineWidth = 1;
  }
}

function drawRow(context, pane, row) {
  if (row.shape === 'mark') return drawMarks(context, pane, row);
  const [first, last] = visible(row);
  let lastPixel = -10;
  for (let place = first; place < last; place += 1) {
    const item = row.items[place];
    const [start, end] = [pane.x(item.start), pane.x(endOf(item))];
    const isTiny = end - start < 1.5;
    const isMarked = item.touches.length > 0 || isChosen(item);
    if (isTiny && start < lastPixel + 1 && !isMarked) continue;
    lastPixel = start;
    const left = Math.max(start, pane.gutter - 4);
    const width = Math.max(Math.min(end, pane.width + 4) - left, 2.5);
    const next = row.items[place + 1];
    drawBox(context, pane, row, item, left, width, next ? pane.x(next.start) : pane.width);
  }
  return undefined;
}

function drawBox(context, pane, row, item, left, width, next) {
  const { y, height } = row;
  const { colour, opacity } = fillOf(item);
  const isBox = row.shape === 'box';
  context.fillStyle = colour;
  context.globalAlpha = opacity;
  if (width < 4 && item.touches.length === 0) {
    // Too small for an edge.
    context.fillRect(left, y, width, height);
    context.globalAlpha = 1;
    pane.hits.push({ item, box: [left, y, width, height] });
    beside(context, pane, row, item, left + width + 4, next);
    return;
  }
  context.beginPath();
  context.roundRect(left, y, width, height, isBox ? 3 : 2);
  context.fill();
  context.globalAlpha = 1;
  if (item.outcome && item.outcome !== 'acknowledged') drawEnd(context, item, left, y, width, height);
  if (item.touches.length > 0) {
    context.strokeStyle = COLOUR.cell;
    context.lineWidth = 2.5;
    context.stroke();
    context.lineWidth = 1;
  }
  pane.hits.push({ item, box: [left, y, width, height] });
  const text = labelOf(item);
  context.font = SMALL;
  context.textAlign = 'left';
  // The numbers of the history are at the beginning and at the end.
  const isNumbered = item.touches.length > 0;
  const inset = isNumbered && item.touches.some((touch) => touch.at === item.start) ? 22 : 4;
  const from = Math.max(left, pane.gutter) + inset;
  const inside = fitting(context, text, left + width - from - (isNumbered ? 22 : 4));
  const middle = y + height / 2 + 0.5;
  if (inside === text || (inside && width > 46)) {
    context.fillStyle = isBox && opacity > 0.5 ? COLOUR.paper : COLOUR.ink;
    context.fillText(inside, from, middle);
  } else {
    beside(context, pane, row, item, left + width + (isNumbered ? 20 : 4), next);
  }
}

function labelOf(item) {
  return item.text + (item.outcome === 'unknown' ? ' ?' : item.outcome === 'refused' ? ' ×' : '');
}

/** The label of what is too small for it, if there is space up to the next item. */
function beside(context, pane, row, item, x, next) {
  const space = Math.min(next, pane.width) - x - 6;
  if (space < 20) return;
  const text = labelOf(item);
  context.font = SMALL;
  context.textAlign = 'left';
  if (widthOf(context, text) > space) return;
  context.fillStyle = COLOUR.soft;
  context.fillText(text, x, row.y + row.height / 2 + 0.5);
}

/** The right edge of what did not end well. */
function drawEnd(context, item, left, y, width, height) {
  const isTorn = item.outcome === 'interrupted';
  context.strokeStyle = isTorn || item.outcome === 'refused' ? COLOUR.bad : COLOUR.unknown;
  context.setLineDash(isTorn ? [] : [3, 2]);
  context.lineWidth = 1.5;
  context.stroke();
  context.setLineDash([]);
  if (isTorn) {
    context.beginPath();
    const [x, step] = [left + width, height / 4];
    context.moveTo(x, y);
    for (let tooth = 0; tooth < 4; tooth += 1) {
      context.lineTo(x + (tooth % 2 ? 0 : 4), y + step * (tooth + 0.5));
      context.lineTo(x, y + step * (tooth + 1));
    }
    context.lineWidth = 2;
    context.stroke();
  }
  context.lineWidth = 1;
  context.beginPath();
  context.roundRect(left, y, width, height, 3);
}

function drawMarks(context, pane, row) {
  const first = lowerBound(row.items.length, (place) => row.items[place].start, VIEW.from);
  const last = lowerBound(row.items.length, (place) => row.items[place].start, VIEW.to);
  let free = -1;
  let lastX = -10;
  context.font = SMALL;
  context.textAlign = 'left';
  for (let place = first; place < last; place += 1) {
    const item = row.items[place];
    const x = pane.x(item.start);
    const y = row.y + row.height / 2;
    if (x < lastX + 2 && !isChosen(item)) continue;
    lastX = x;
    context.fillStyle = COLOUR[`c${item.colour}`];
    context.beginPath();
    context.arc(x, y, 3.5, 0, 2 * Math.PI);
    context.fill();
    pane.hits.push({ item, box: [x - 5, y - 6, 10, 12] });
    let next = place + 1;
    while (next < row.items.length && pane.x(row.items[next].start) < x + 2) next += 1;
    const until = next < row.items.length ? pane.x(row.items[next].start) : pane.width;
    const more = next - place > 1 ? ` +${next - place - 1}` : '';
    const text = item.text + more;
    if (x > free && widthOf(context, text) + 14 < until - x) {
      context.fillStyle = COLOUR.soft;
      context.fillText(text, x + 7, y + 0.5);
      free = x + 10 + widthOf(context, text);
    }
  }
}

function drawMoments(context, pane) {
  for (const item of pane.moments) {
    if (item.start < VIEW.from || item.start > VIEW.to) continue;
    const x = Math.round(pane.x(item.start)) + 0.5;
    context.strokeStyle = COLOUR.c11;
    context.setLineDash([1, 3]);
    context.beginPath();
    context.moveTo(x, SIZE.ruler - 2);
    context.lineTo(x, pane.height);
    context.stroke();
    context.setLineDash([]);
    flag(context, pane, x, item.text, COLOUR.c11, { item });
  }
}

/** A text at the top of a vertical line, if there is space for it. */
function flag(context, pane, x, text, colour, hit) {
  context.font = SMALL;
  const width = widthOf(context, text) + 12;
  const left = Math.max(pane.gutter, Math.min(x - width / 2, pane.width - width));
  const box = [left, SIZE.ruler - 6 + pane.height - SIZE.ruler - 12, width, 15];
  if (pane.labels.some((other) => overlaps(other, box))) return;
  pane.labels.push(box);
  context.fillStyle = COLOUR.paper;
  context.fillRect(...box);
  context.strokeStyle = colour;
  context.strokeRect(box[0] + 0.5, box[1] + 0.5, width - 1, 14);
  context.fillStyle = colour;
  context.textAlign = 'left';
  context.fillText(text, left + 6, box[1] + 8);
  pane.hits.push({ ...hit, box });
}

function overlaps([x, y, width, height], [left, top, wide, high]) {
  return x < left + wide + 3 && left < x + width + 3 && y < top + high && top < y + height;
}
