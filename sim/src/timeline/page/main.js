// The toolbar, the mouse, the keys and the search.

let FOUND = { text: '', items: [], place: -1 };

function choose(what, isRevealed = true) {
  CHOSEN = what;
  if (what && what.item && isRevealed) reveal(what.item.start, endOf(what.item));
  describe();
  mark();
  redraw();
}

function chooseTouch(touch) {
  const hasItem = touch.item !== undefined && touch.item !== null;
  CHOSEN = hasItem ? { item: touch.run.items[touch.item], touch } : { touch };
  if (hasItem) reveal(CHOSEN.item.start, endOf(CHOSEN.item));
  if (touch.at < VIEW.from || touch.at > VIEW.to || VIEW.to - VIEW.from > 3000000) showAt(touch.at);
  describe();
  mark();
  redraw();
}

function chooseViolation(violation) {
  CHOSEN = { violation };
  showAt(violation.at);
  describe();
  mark();
  byId('workspace').scrollIntoView({ block: 'nearest' });
  redraw();
}

/** Marks the selected row of the history. */
function mark() {
  document.querySelectorAll('tr.chosen').forEach((row) => row.classList.remove('chosen'));
  const touches = CHOSEN === null ? [] : CHOSEN.touch ? [CHOSEN.touch] : CHOSEN.item ? CHOSEN.item.touches : [];
  for (const touch of touches) {
    const row = document.querySelector(`tr[data-touch="${touch.run.number}-${touch.number}"]`);
    if (row) row.classList.add('chosen');
  }
}

// ---- search

function search() {
  const text = byId('find').value.trim().toLowerCase();
  const items = text === '' ? [] : PANES.flatMap((pane) => pane.shown.filter((item) => item.searched.includes(text)));
  FOUND = { text, items, place: -1 };
  showFound();
}

function showFound() {
  const { text, items, place } = FOUND;
  byId('found').textContent = text === '' ? '' : place < 0 ? `${items.length} found` : `${place + 1} of ${items.length}`;
}

function findNext(step) {
  const { items } = FOUND;
  if (items.length === 0) return;
  if (FOUND.place < 0) {
    const first = items.findIndex((item) => item.start >= VIEW.from);
    FOUND.place = step > 0 ? Math.max(first, 0) : (first + items.length - 1) % items.length;
  } else {
    FOUND.place = (FOUND.place + step + items.length) % items.length;
  }
  choose({ item: items[FOUND.place] });
  showFound();
}

// ---- toolbar

function checks(name, entries, chosen, id) {
  const boxes = entries.map(([key, text, colour]) => {
    const box = element('input', { type: 'checkbox', checked: chosen.has(key), 'data-key': key, onchange: () => {
      if (box.checked) chosen.add(key);
      else chosen.delete(key);
      applyFilter();
    } });
    return element('label', {}, box, colour && element('span', { class: 'swatch', 'data-colour': colour }), text);
  });
  const all = (isOn) => {
    entries.forEach(([key]) => (isOn ? chosen.add(key) : chosen.delete(key)));
    boxes.forEach((label) => { label.querySelector('input').checked = isOn; });
    applyFilter();
  };
  return element('details', { class: 'menu', id }, element('summary', { text: name }), element('div', {},
    element('div', { class: 'all' }, element('button', { text: 'all', onclick: () => all(true) }), element('button', { text: 'none', onclick: () => all(false) })),
    boxes));
}

function picker(name, values, key, id) {
  if (values.length < 2) return null;
  const select = element('select', { id, 'aria-label': name, onchange: () => {
    FILTER[key] = select.value;
    applyFilter();
  } }, element('option', { value: '', text: `all ${name}s` }), values.map((value) => element('option', { value: String(value), text: `${name} ${value}` })));
  return select;
}

function buildToolbar() {
  const lanes = ofAll((run) => run.lanes.map((lane) => lane.name));
  const kinds = [...new Map(RUNS.flatMap((run) => run.kinds).map((kind) => [kind.kind, kind])).values()];
  const button = (id, text, title, onclick) => element('button', { id, text, title, 'aria-label': title, onclick });
  const find = element('input', { id: 'find', type: 'search', placeholder: 'find', 'aria-label': 'find', oninput: search });
  find.addEventListener('keydown', (event) => {
    if (event.key === 'Enter') { findNext(event.shiftKey ? -1 : 1); event.preventDefault(); }
    if (event.key === 'Escape') { find.blur(); event.stopPropagation(); }
  });
  const only = element('input', { id: 'only-cells', type: 'checkbox', onchange: () => { FILTER.onlyCells = only.checked; applyFilter(); } });
  byId('toolbar').replaceChildren(...[
    element('span', { class: 'group' },
      button('zoom-in', '+', 'zoom in (+)', () => zoom(0.5)),
      button('zoom-out', '−', 'zoom out (−)', () => zoom(2)),
      button('earlier', '←', 'earlier (←)', () => pan(-0.5)),
      button('later', '→', 'later (→)', () => pan(0.5)),
      button('zoom-all', 'all', 'the whole run (0)', showAll),
      RUNS[0].violations.length > 0 && button('zoom-cause', 'cause', 'what led to the violation (C)', showCause)),
    checks('Lanes', lanes.map((name) => [name, name]), FILTER.lanes, 'filter-lanes'),
    checks('Kinds', kinds.map((kind) => [kind.kind, kind.name, kind.colour + 1]), FILTER.kinds, 'filter-kinds'),
    picker('partition', ofAll((run) => run.partitions), 'partition', 'filter-partition'),
    picker('source', ofAll((run) => run.sources), 'source', 'filter-source'),
    RUNS[0].history.length > 0 && element('label', {}, only, 'only what concerns the cells'),
    element('span', { class: 'space' }),
    element('span', { class: 'group' }, find,
      button('find-previous', '↑', 'previous match (Shift+Enter)', () => findNext(-1)),
      button('find-next', '↓', 'next match (Enter)', () => findNext(1)),
      element('span', { id: 'found', 'aria-live': 'polite' })),
    button('keys', '?', 'keys (?)', help),
  ].filter(Boolean));
}

function paintSwatches() {
  document.querySelectorAll('[data-colour]').forEach((swatch) => {
    swatch.style.background = COLOUR[`c${swatch.dataset.colour - 1}`];
  });
}

// ---- panes and the mouse

function buildPanes() {
  PANES = RUNS.map((run) => {
    const canvas = element('canvas', { tabindex: 0, role: 'img', class: 'timeline', 'aria-label': `Timeline of ${run.run.title}. The table of the history has the same events as text.` });
    const overview = run.number === 0 ? element('canvas', { class: 'overview', 'aria-hidden': 'true' }) : null;
    const violation = run.violations[0];
    const title = RUNS.length > 1 && element('div', { class: 'title' }, element('b', { text: run.run.title }),
      element('span', { class: violation ? 'outcome lost' : 'soft', text: violation ? violation.name : 'no violation' }),
      element('span', { class: 'soft', text: run.number > 0 ? run.run.text || '' : '' }));
    const made = element('div', { class: 'pane' }, title, overview, canvas);
    const pane = { run, canvas, overview, made };
    listen(pane);
    return pane;
  });
  byId('panes').replaceChildren(...PANES.map((pane) => pane.made));
}

function listen(pane) {
  const { canvas, overview } = pane;
  const pointers = new Map();
  let moved = 0;
  canvas.addEventListener('wheel', (event) => {
    event.preventDefault();
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      pan((event.deltaX || event.deltaY) / 1200);
    } else {
      const rows = event.deltaMode === 1 ? 20 : 1;
      zoom(Math.exp(Math.max(Math.min(event.deltaY * rows, 300), -300) / 400), pane.at(event.offsetX));
    }
  }, { passive: false });
  canvas.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    moved = 0;
    canvas.focus({ preventScroll: true });
  });
  canvas.addEventListener('pointermove', (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return hover(pane, event);
    const now = [event.offsetX, event.offsetY];
    const scale = (VIEW.to - VIEW.from) / (pane.width - pane.gutter);
    if (pointers.size === 1) {
      moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
      if (moved > 4) {
        canvas.classList.add('dragging');
        const by = (before[0] - now[0]) * scale;
        show(VIEW.from + by, VIEW.to + by);
        if (event.pointerType === 'touch') window.scrollBy(0, before[1] - now[1]);
      }
    } else {
      const [id] = [...pointers.keys()].filter((one) => one !== event.pointerId);
      const other = pointers.get(id);
      const [was, is] = [Math.abs(before[0] - other[0]), Math.abs(now[0] - other[0])];
      if (was > 10 && is > 10) zoom(was / is, pane.at((now[0] + other[0]) / 2));
      moved = 10;
    }
    pointers.set(event.pointerId, now);
    return undefined;
  });
  const release = (event) => {
    if (!pointers.delete(event.pointerId)) return;
    canvas.classList.remove('dragging');
    if (moved <= 4 && event.type === 'pointerup') click(pane, event);
  };
  canvas.addEventListener('pointerup', release);
  canvas.addEventListener('pointercancel', release);
  canvas.addEventListener('pointerleave', () => { byId('tip').hidden = true; });
  canvas.addEventListener('dblclick', (event) => zoom(0.35, pane.at(event.offsetX)));
  if (!overview) return;
  const jump = (event) => {
    const at = pane.overviewAt(event.offsetX);
    const length = VIEW.to - VIEW.from;
    show(at - length / 2, at + length / 2);
  };
  overview.addEventListener('pointerdown', (event) => { overview.setPointerCapture(event.pointerId); jump(event); });
  overview.addEventListener('pointermove', (event) => { if (event.buttons === 1) jump(event); });
}

function textOf(hit) {
  if (hit.violation) return `${hit.violation.name}: ${hit.violation.title}`;
  if (hit.touch) {
    return hit.touches.slice(0, 5).map((touch) => `${touch.number}. ${touch.who} ${touch.does}: ${touch.value}${touch.timestamp ? `, at timestamp ${touch.timestamp}` : ''}`).join('\n')
      + (hit.touches.length > 5 ? `\n... ${hit.touches.length - 5} more` : '');
  }
  return `${lineOf(hit.item)}\n${whenOf(hit.item.start, hit.item.event)}`;
}

function hover(pane, event) {
  const hit = event.offsetX > pane.gutter ? hitAt(pane, event.offsetX, event.offsetY) : null;
  const tip = byId('tip');
  pane.canvas.style.cursor = hit ? 'pointer' : '';
  tip.hidden = !hit;
  if (!hit) return;
  tip.textContent = textOf(hit);
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(4, Math.min(event.clientX + 12, window.innerWidth - width - 8))}px`;
  tip.style.top = `${event.clientY + 16 + height > window.innerHeight ? event.clientY - height - 10 : event.clientY + 16}px`;
}

function click(pane, event) {
  const hit = event.offsetX > pane.gutter ? hitAt(pane, event.offsetX, event.offsetY) : null;
  byId('tip').hidden = true;
  if (!hit) return choose(null);
  if (hit.violation) {
    CHOSEN = { violation: hit.violation };
    describe();
    return redraw();
  }
  if (!hit.touch) return choose({ item: hit.item }, false);
  // Again: the next of the numbers that are shown as one.
  const last = CHOSEN !== null && CHOSEN.touch ? hit.touches.indexOf(CHOSEN.touch) : -1;
  return chooseTouch(hit.touches[(last + 1) % hit.touches.length]);
}

// ---- keys

/** The next or previous number of the history. */
function stepHistory(step) {
  const run = CHOSEN && CHOSEN.touch ? CHOSEN.touch.run : RUNS[0];
  const { history } = run;
  if (history.length === 0) return;
  let place = CHOSEN && CHOSEN.touch ? history.indexOf(CHOSEN.touch) + step : step > 0 ? 0 : history.length - 1;
  place = Math.max(0, Math.min(place, history.length - 1));
  chooseTouch(history[place]);
}

/** The next or previous item of the lane that is selected, or of the first pane. */
function stepLane(step) {
  const item = CHOSEN && CHOSEN.item;
  const pane = item ? PANES[item.run.number] : PANES[0];
  const lane = item ? pane.shown.filter((one) => one.lane === item.lane) : pane.shown;
  const here = item ? lane.indexOf(item) : lowerBound(lane.length, (place) => lane[place].start, VIEW.from) - 1;
  const next = lane[here + step];
  if (next) choose({ item: next });
}

const ON_KEY = {
  '+': () => zoom(0.6),
  '=': () => zoom(0.6),
  '-': () => zoom(1 / 0.6),
  0: showAll,
  c: showCause,
  v: () => { if (RUNS[0].violations.length > 0) chooseViolation(RUNS[0].violations[0]); },
  d: () => { if (APART) byId('to-difference').click(); },
  '[': () => stepHistory(-1),
  ']': () => stepHistory(1),
  n: () => stepLane(1),
  p: () => stepLane(-1),
  r: () => {
    const item = CHOSEN && CHOSEN.item;
    if (item && item.peer !== undefined) choose({ item: item.run.items[item.peer] });
  },
  '/': () => byId('find').focus(),
  '?': help,
  Escape: () => choose(null),
};

document.addEventListener('keydown', (event) => {
  const isTyping = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName) && event.target.type !== 'checkbox';
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || byId('help').open) return;
  if (event.key === 'ArrowLeft' || event.key === 'ArrowRight') {
    pan((event.key === 'ArrowLeft' ? -1 : 1) * (event.shiftKey ? 0.9 : 0.15));
    event.preventDefault();
    return;
  }
  const act = ON_KEY[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act) return;
  event.preventDefault();
  act();
});

document.addEventListener('click', (event) => {
  document.querySelectorAll('details.menu[open]').forEach((menu) => { if (!menu.contains(event.target)) menu.open = false; });
});

function repaint() {
  readColours();
  paintSwatches();
  explainSigns();
  PANES.forEach(resize);
  redraw();
}

function start() {
  readColours();
  summarize();
  buildToolbar();
  buildPanes();
  applyFilter();
  tabulate();
  listViolations();
  describeRuns();
  describe();
  repaint();
  showCause();
  window.addEventListener('resize', () => { PANES.forEach((pane) => { pane.density = null; }); repaint(); });
  window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', repaint);
}

start();
