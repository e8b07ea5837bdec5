// Draws what goes from lane to lane, and what is marked: the touches of the cells, the violations, the selection.

function drawArrows(context, pane) {
  const { arrows } = pane;
  const last = lowerBound(arrows.length, (place) => arrows[place].start, VIEW.to);
  const drawn = new Set();
  const strong = [];
  const batches = new Map();
  const length = VIEW.to - VIEW.from;
  const perPixel = length / (pane.width - pane.gutter);
  let inView = 0;
  for (let place = last - 1; place >= 0 && pane.latest[place] >= VIEW.from; place -= 1) {
    if (endOf(arrows[place]) >= VIEW.from) inView += 1;
  }
  // So many that only some of them can be seen: one for each pair of lanes and few pixels.
  const pixels = inView > 4000 ? 6 : inView > 1000 ? 4 : 2;
  const opacity = inView > 1500 ? 0.16 : inView > 300 ? 0.3 : inView > 80 ? 0.5 : 0.75;
  for (let place = last - 1; place >= 0 && pane.latest[place] >= VIEW.from; place -= 1) {
    const item = arrows[place];
    if (endOf(item) < VIEW.from) continue;
    if (item.touches.length > 0 || isChosen(item)) {
      strong.push(item);
      continue;
    }
    const key = `${item.lane},${item.to},${Math.round(item.start / perPixel / pixels)},${item.outcome === 'lost'}`;
    if (inView > 200 && drawn.has(key)) continue;
    if (drawn.size > MOST_ARROWS) continue;
    drawn.add(key);
    arrow(context, pane, item, item.outcome === 'lost' ? Math.max(opacity, 0.6) : opacity, 1, batches);
  }
  stroke(context, batches);
  strong.reverse().forEach((item) => arrow(context, pane, item, 1, 2.5));
}

/** Draws lines and heads of one style at once: one by one, thousands take too long. */
function stroke(context, batches) {
  for (const { colour, opacity, dash, lines, heads } of batches.values()) {
    context.globalAlpha = opacity;
    context.strokeStyle = colour;
    context.fillStyle = colour;
    context.setLineDash(dash);
    context.beginPath();
    for (const [x1, y1, x2, y2] of lines) {
      context.moveTo(x1, y1);
      context.lineTo(x2, y2);
    }
    context.stroke();
    context.setLineDash([]);
    context.beginPath();
    heads.forEach((head) => trace(context, head));
    context.fill();
  }
  context.globalAlpha = 1;
}

function trace(context, [x, y, angle, size]) {
  context.moveTo(x, y);
  context.lineTo(x - size * Math.cos(angle - 0.4), y - size * Math.sin(angle - 0.4));
  context.lineTo(x - size * Math.cos(angle + 0.4), y - size * Math.sin(angle + 0.4));
}

function arrow(context, pane, item, opacity, thickness, batches) {
  const [from, to] = [pane.lanes[item.lane], pane.lanes[item.to]];
  if (!from || !to || !from.isShown || !to.isShown) return;
  const isLost = item.outcome === 'lost';
  const x1 = pane.x(item.start);
  const y1 = wire(from, to);
  let x2 = pane.x(endOf(item));
  let y2 = wire(to, from);
  if (isLost) {
    // It leaves, and ends on its way.
    const towards = y2 > y1 ? 1 : -1;
    const way = Math.min(Math.abs(y2 - y1) * 0.55, 60);
    [x2, y2] = [x1 + Math.min(way / 3, 14), y1 + towards * way];
  }
  const isOfCell = item.touches.length > 0;
  const colour = isOfCell ? COLOUR.cell : isLost ? COLOUR.bad : item.outcome === 'failed' ? COLOUR.unknown : COLOUR[`c${item.colour}`];
  const isResponse = item.peer !== undefined && item.peer < item.index;
  const angle = Math.atan2(y2 - y1, x2 - x1);
  const head = [x2, y2, angle, thickness > 1 ? 9 : 6];
  pane.hits.push({ item, line: [x1, y1, x2, y2] });
  if (batches && !isLost) {
    const key = `${colour}${isResponse}`;
    if (!batches.has(key)) batches.set(key, { colour, opacity, dash: isResponse ? [5, 2] : [], lines: [], heads: [] });
    batches.get(key).lines.push([x1, y1, x2, y2]);
    batches.get(key).heads.push(head);
    return;
  }
  context.globalAlpha = opacity;
  context.strokeStyle = colour;
  context.fillStyle = colour;
  context.lineWidth = thickness;
  context.setLineDash(isLost ? [4, 3] : isResponse ? [5, 2] : []);
  context.beginPath();
  context.moveTo(x1, y1);
  context.lineTo(x2, y2);
  context.stroke();
  context.setLineDash([]);
  context.beginPath();
  if (isLost) {
    const size = 4;
    context.lineWidth = 2;
    context.moveTo(x2 - size, y2 - size);
    context.lineTo(x2 + size, y2 + size);
    context.moveTo(x2 - size, y2 + size);
    context.lineTo(x2 + size, y2 - size);
    context.stroke();
  } else {
    trace(context, head);
    context.fill();
  }
  context.globalAlpha = 1;
  context.lineWidth = 1;
}

/** Where a touch is shown. */
function placeOf(pane, touch) {
  const lane = pane.lanes[touch.lane];
  if (!lane || !lane.isShown) return null;
  const item = touch.item === undefined || touch.item === null ? null : pane.run.items[touch.item];
  if (item && item.shape === 'arrow') {
    const to = pane.lanes[item.to];
    return to && to.isShown ? { x: pane.x(touch.at), y: wire(lane, to) } : null;
  }
  const row = item && lane.rows.includes(item.row) ? item.row : null;
  const x = pane.x(touch.at);
  if (!row) return { x, y: lane.strip };
  // Inside of its box, so that it covers no other.
  const isWide = pane.x(endOf(item)) - pane.x(item.start) > 40;
  const shift = !isWide ? 0 : touch.at === item.start ? 10 : touch.at === item.end ? -10 : 0;
  return { x: x + shift, y: row.y + row.height / 2 };
}

/** Numbers as in the table. Those that would cover each other are shown as one. */
function drawTouches(context, pane) {
  const groups = new Map();
  for (const touch of pane.run.history) {
    if (touch.at < VIEW.from || touch.at > VIEW.to) continue;
    const place = placeOf(pane, touch);
    if (!place) continue;
    const key = Math.round(place.y / 10);
    const group = groups.get(key) || [];
    const last = group[group.length - 1];
    if (last && place.x - last.x < 24) last.touches.push(touch);
    else group.push({ ...place, touches: [touch] });
    groups.set(key, group);
  }
  context.font = `600 11px ${FONT.slice(5)}`;
  context.textAlign = 'center';
  for (const { x, y, touches } of [...groups.values()].flat()) {
    const [first, last] = [touches[0].number, touches[touches.length - 1].number];
    const text = first === last ? `${first}` : `${first}–${last}`;
    const width = Math.max(widthOf(context, text) + 8, 16);
    const box = [x - width / 2, y - 8, width, 16];
    context.fillStyle = touches.some((touch) => touch.is_wrong) ? COLOUR.bad : COLOUR.cell;
    context.beginPath();
    context.roundRect(...box, 8);
    context.fill();
    context.strokeStyle = COLOUR.paper;
    context.stroke();
    context.fillStyle = COLOUR.paper;
    context.fillText(text, x, y + 0.5);
    pane.hits.push({ touch: touches[0], touches, box });
  }
  context.textAlign = 'left';
}

function verticalLine(context, pane, at, colour, width, dash = []) {
  const x = pane.x(at);
  if (x < pane.gutter || x > pane.width) return null;
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.setLineDash(dash);
  context.beginPath();
  context.moveTo(x, SIZE.ruler - 3);
  context.lineTo(x, pane.height);
  context.stroke();
  context.setLineDash([]);
  context.lineWidth = 1;
  return x;
}

/** A flag under the ruler, beside a vertical line. */
function banner(context, pane, x, text, colour, hit) {
  context.font = BOLD;
  const width = widthOf(context, text) + 12;
  const places = x + width > pane.width ? [x - width] : [x, x - width];
  const boxes = places.map((left) => [left, SIZE.ruler - 3, width, 18]);
  // Two flags of the same moment touch each other.
  const box = boxes.find(([left]) => left >= pane.gutter && !pane.labels.some((other) => overlaps(other, [left + 4, SIZE.ruler - 3, width - 8, 18])));
  if (!box) return;
  pane.labels.push(box);
  context.fillStyle = colour;
  context.fillRect(...box);
  context.fillStyle = COLOUR.paper;
  context.textAlign = 'left';
  context.fillText(text, box[0] + 6, box[1] + 9.5);
  pane.hits.push({ ...hit, box });
}

function drawVertical(context, pane) {
  pane.run.violations.forEach((violation, place) => {
    const x = verticalLine(context, pane, violation.at, COLOUR.bad, place === 0 ? 2.5 : 1, place === 0 ? [] : [3, 3]);
    if (x === null) return;
    if (place === 0 || (CHOSEN !== null && CHOSEN.violation === violation)) banner(context, pane, x, violation.name, COLOUR.bad, { violation });
    pane.hits.push({ violation, line: [x, SIZE.ruler, x, pane.wide.y + pane.wide.height] });
  });
  if (!APART) return;
  const x = verticalLine(context, pane, APART.at[pane.run.number], COLOUR.apart, 1.5, [6, 3]);
  const place = pane.run.number === 0 ? APART.first : APART.second;
  if (x !== null) banner(context, pane, x, 'first difference', COLOUR.apart, { item: pane.run.items[place] });
}

function isChosen(item) {
  return CHOSEN !== null && CHOSEN.item === item;
}

/** The selection, and what answers it. */
function drawChosen(context, pane) {
  if (CHOSEN === null || !CHOSEN.item) return;
  const chosen = CHOSEN.item;
  const peer = chosen.run === pane.run && chosen.peer !== undefined ? pane.run.items[chosen.peer] : undefined;
  const other = chosen.run === pane.run ? chosen : sameInOther(chosen);
  for (const [item, colour] of [[other, COLOUR.focus], [peer, COLOUR.focus]]) {
    if (!item) continue;
    const hit = pane.hits.find((one) => one.item === item);
    if (!hit) continue;
    context.strokeStyle = colour;
    context.lineWidth = 2;
    context.setLineDash(item === chosen ? [] : [4, 3]);
    context.beginPath();
    if (hit.box) context.roundRect(hit.box[0] - 2, hit.box[1] - 2, hit.box[2] + 4, hit.box[3] + 4, 4);
    else {
      context.moveTo(hit.line[0], hit.line[1]);
      context.lineTo(hit.line[2], hit.line[3]);
    }
    context.stroke();
    context.setLineDash([]);
    context.lineWidth = 1;
  }
  if (chosen.run === pane.run) {
    context.globalAlpha = 0.5;
    verticalLine(context, pane, chosen.start, COLOUR.focus, 1);
    context.globalAlpha = 1;
  }
}

/** All of the run: how much happens when, and which part is shown. */
function drawOverview(pane) {
  if (!pane.overview) return;
  const context = pane.overview.getContext('2d');
  const ratio = window.devicePixelRatio || 1;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  const { width, gutter } = pane;
  const height = 34;
  context.fillStyle = COLOUR.panel;
  context.fillRect(0, 0, width, height);
  const scale = (width - gutter - 6) / (SPAN.to - SPAN.from);
  const x = (at) => gutter + (at - SPAN.from) * scale;
  pane.overviewAt = (place) => SPAN.from + (place - gutter) / scale;
  if (!pane.density || pane.density.length !== width) {
    pane.density = new Float32Array(width);
    for (const item of pane.run.items) pane.density[Math.min(Math.floor(x(item.start)), width - 1)] += 1;
    pane.most = Math.max(...pane.density);
  }
  context.fillStyle = COLOUR.c1;
  pane.density.forEach((count, place) => {
    const high = count > 0 ? 3 + (Math.log1p(count) / Math.log1p(pane.most)) * (height - 14) : 0;
    context.fillRect(place, height - 4 - high, 1, high);
  });
  context.fillStyle = COLOUR.c0;
  for (const row of pane.wide.rows) {
    row.items.forEach((item) => context.fillRect(x(item.start), 3, Math.max(x(endOf(item)) - x(item.start), 1), 3));
  }
  context.fillStyle = COLOUR.cell;
  pane.run.history.forEach((touch) => context.fillRect(x(touch.at) - 1, height - 4, 2, 4));
  context.fillStyle = COLOUR.bad;
  pane.run.violations.forEach((violation) => context.fillRect(x(violation.at) - 1, 0, 2, height));
  if (APART) {
    context.fillStyle = COLOUR.apart;
    context.fillRect(x(APART.at[pane.run.number]) - 1, 0, 2, height);
  }
  const [left, right] = [Math.max(x(VIEW.from), gutter - 2), Math.min(x(VIEW.to), width - 2)];
  context.strokeStyle = COLOUR.focus;
  context.lineWidth = 2;
  context.strokeRect(left, 1, Math.max(right - left, 3), height - 2);
  context.fillStyle = COLOUR.focus;
  context.globalAlpha = 0.1;
  context.fillRect(left, 1, Math.max(right - left, 3), height - 2);
  context.globalAlpha = 1;
  context.font = SMALL;
  context.fillStyle = COLOUR.soft;
  context.textBaseline = 'middle';
  context.fillText(gutter > 100 ? 'the whole run' : 'whole run', 8, height / 2);
}

/** What is drawn at a place: boxes before lines, the last drawn first. */
function hitAt(pane, x, y) {
  let best = null;
  for (let place = pane.hits.length - 1; place >= 0; place -= 1) {
    const hit = pane.hits[place];
    if (hit.box) {
      const [left, top, width, height] = hit.box;
      if (x < left - 2 || x > left + width + 2 || y < top - 1 || y > top + height + 1) continue;
      if (!hit.weak) return hit;
      best = best || hit;
    } else if (!best) {
      const [x1, y1, x2, y2] = hit.line;
      const length = (x2 - x1) ** 2 + (y2 - y1) ** 2 || 1;
      const part = Math.min(Math.max(((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / length, 0), 1);
      const distance = Math.hypot(x - x1 - part * (x2 - x1), y - y1 - part * (y2 - y1));
      if (distance < 4) best = hit;
    }
  }
  return best;
}
