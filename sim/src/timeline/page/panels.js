// What is around the timeline: the summary, the selected event, the history of the cells, the legend.

const byId = (id) => document.getElementById(id);

/** The time and the number of an event, as the trace has them. */
function whenOf(at, event) {
  return `${inMs(at)} ms, event ${event.toLocaleString('en-US')}`;
}

function summarize() {
  const run = RUNS[0];
  const violation = run.violations[0];
  const card = violation
    ? element('div', { class: 'violation' },
        element('h1', {}, violation.title),
        element('div', {}, element('span', { class: 'name mono', text: violation.name }),
          element('span', { class: 'soft', text: `, found at ${whenOf(violation.at, violation.event)}` })),
        element('p', { class: 'finding', text: violation.finding }),
        element('p', { class: 'soft', text: violation.meaning }),
        element('div', { class: 'actions' },
          element('button', { id: 'to-violation', text: 'Show its moment', onclick: () => chooseViolation(violation) }),
          run.history.length > 0 && element('button', { id: 'to-cause', text: 'Show what led to it', onclick: showCause })))
    : element('div', { class: 'violation none' },
        element('h1', { text: 'No violation' }),
        element('p', { text: 'The tables equal the ground truth.' }));
  const parts = [card];
  if (run.run.text) parts.unshift(element('p', { class: 'lead', text: run.run.text }));
  if (APART) parts.push(apart());
  const facts = [['run', run.run.title], ['seed', run.run.seed], ['services', run.run.world], ['profile', run.run.profile],
    ['commit', run.run.commit], ['events', run.run.events.toLocaleString('en-US')],
    ['simulated', `${inMs(run.end, 0)} ms`]];
  byId('summary').replaceChildren(element('div', {}, parts),
    element('div', { class: 'facts' }, pairs([...facts, ['to repeat it', element('code', { text: run.run.command })]])));
}

/** What differs in two items of the same text: the first line of their details that does. */
function differing(item, other) {
  for (const [place, [name, text]] of (item.details || []).entries()) {
    const lines = ((other.details || [])[place] || ['', ''])[1].split('\n');
    const line = text.split('\n').find((one, number) => one !== lines[number]);
    if (line !== undefined) return `, ${name}: ${line}`;
  }
  return item.outcome && item.outcome !== other.outcome ? `, ${OUTCOMES[item.outcome]}` : '';
}

/** Where two runs part. */
function apart() {
  const items = [APART.first, APART.second].map((place, number) => (place === undefined || place === null ? undefined : RUNS[number].items[place]));
  const does = (number) => {
    const [item, other] = [items[number], items[1 - number]];
    if (!item) return 'nothing more';
    const isSame = other && lineOf(other) === lineOf(item);
    return lineOf(item) + (isSame ? differing(item, other) : '');
  };
  const [first, second] = APART.at;
  return element('div', { class: 'apart' },
    element('p', {}, element('span', { class: 'name', text: 'The first difference. ' }),
      `Both runs are the same until ${inMs(Math.min(first, second))} ms. Then:`),
    element('p', {}, element('b', { text: `${RUNS[0].run.title}: ` }), does(0), element('span', { class: 'soft', text: ` at ${inMs(first)} ms` })),
    element('p', {}, element('b', { text: `${RUNS[1].run.title}: ` }), does(1), element('span', { class: 'soft', text: ` at ${inMs(second)} ms` })),
    element('div', { class: 'actions' }, element('button', { id: 'to-difference', text: 'Show it', onclick: () => {
      showAt(Math.min(first, second), 120000);
      const item = APART.first === undefined || APART.first === null ? undefined : RUNS[0].items[APART.first];
      if (item) choose({ item }, false);
    } })));
}

function pairs(list) {
  return element('dl', {}, list.filter(([, text]) => text !== undefined && text !== '').flatMap(([name, text]) => [
    element('dt', { text: name }),
    element('dd', {}, text),
  ]));
}

/** The panel of what is selected. */
function describe() {
  const panel = byId('details');
  if (CHOSEN === null) {
    panel.replaceChildren(
      element('h3', { text: 'Nothing is selected' }),
      element('p', { class: 'soft', text: 'Click a box, an arrow, a number or a bar, or a row of the table below. The wheel zooms, dragging pans, ? lists the keys.' }));
    return;
  }
  if (CHOSEN.violation) {
    const { violation } = CHOSEN;
    panel.replaceChildren(
      element('h3', { text: violation.title }),
      pairs([['violation', violation.name], ['found at', whenOf(violation.at, violation.event)],
        ['by', violation.lane === undefined ? undefined : laneName(violation.run, violation.lane)],
        ['finding', violation.finding], ['meaning', violation.meaning],
        ['evidence', element('code', { text: violation.evidence })]]));
    return;
  }
  if (CHOSEN.touch && !CHOSEN.item) {
    panel.replaceChildren(touchPanel(CHOSEN.touch));
    return;
  }
  panel.replaceChildren(...itemPanel(CHOSEN.item));
}

function seenOf(touch) {
  if (!touch.seen || touch.seen.length === 0) return undefined;
  return element('span', { class: 'seen' }, touch.seen.map((text) => element('span', { class: text === 'nothing' || text === 'down' ? 'none' : '', text })));
}

function touchPanel(touch) {
  return element('div', {},
    element('h3', {}, element('span', { class: 'badge', text: touch.number }), ` ${touch.who} ${touch.does}`),
    pairs([['cell', touch.run.cells[touch.cell][1]], ['value', touch.value], ['write timestamp', touch.timestamp],
      ['time', whenOf(touch.at, touch.event)], ['to', touch.to === undefined ? undefined : laneName(touch.run, touch.to)],
      ['replicas have', seenOf(touch)], ['in the log', touch.truth],
      ['', touch.is_wrong ? element('b', { class: 'outcome lost', text: 'The log never had this value.' }) : undefined]]));
}

function itemPanel(item) {
  const { run } = item;
  const kind = run.kindOf[item.kind];
  const isMessage = item.to !== undefined;
  const lasts = item.end === undefined ? undefined : `${inMs(item.end - item.start)} ms`;
  const sources = (item.sources || []).map((place) => run.sources[place]).join(', ');
  const peer = item.peer === undefined ? undefined : run.items[item.peer];
  const other = sameInOther(item);
  const parts = [
    element('h3', { text: item.text }),
    element('p', { class: 'soft', text: `${kind.name}: ${kind.meaning}` }),
    pairs([
      ['run', RUNS.length > 1 ? run.run.title : undefined],
      [isMessage ? 'from' : 'lane', laneName(run, item.lane)],
      ['to', isMessage ? laneName(run, item.to) : undefined],
      [isMessage ? 'sent' : kind.shape === 'mark' ? 'time' : 'begins', whenOf(item.start, item.event)],
      [isMessage ? 'arrives' : 'ends', kind.shape === 'mark' ? undefined : item.end === undefined ? 'never' : whenOf(item.end, item.end_event ?? item.event)],
      ['lasts', lasts],
      ['outcome', item.outcome ? element('span', { class: `outcome ${item.outcome}`, text: OUTCOMES[item.outcome] }) : undefined],
      ['partitions', (item.partitions || []).join(', ')],
      ['sources', sources],
      ['affects', (item.affects || []).map((lane) => laneName(run, lane)).join(', ')],
      ...(item.details || []),
    ]),
  ];
  for (const touch of item.touches) parts.push(touchPanel(touch));
  const links = [];
  if (peer) links.push(element('button', { text: peer.index > item.index ? 'To its response' : 'To its request', onclick: () => choose({ item: peer }) }));
  if (other) links.push(element('button', { text: 'The same in the other run', onclick: () => choose({ item: other }) }));
  if (links.length > 0) parts.push(element('div', { class: 'links' }, links));
  return parts;
}

/** The rows of a table of the history: what happens to the cells, and between it what becomes of workers and faults. */
function rowsOf(run) {
  const rows = run.history.map((touch) => ({ at: touch.at, order: touch.event, touch }));
  if (rows.length === 0) return [];
  // What happens after the violation no longer explains it.
  const [first, last] = [rows[0].at, run.violations.length > 0 ? run.violations[0].at : rows[rows.length - 1].at];
  const isContext = (item) => item.shape === 'line' || item.kind === 'fault' || item.shape === 'bar' && item.lane !== undefined;
  for (const item of run.items.filter(isContext)) {
    const name = item.lane === undefined ? '' : `${laneName(run, item.lane)}: `;
    const kind = run.kindOf[item.kind].name;
    const text = item.text.startsWith(kind) || item.kind === 'life' ? item.text : `${kind}, ${item.text}`;
    if (item.start >= first && item.start <= last) rows.push({ at: item.start, order: item.event, item, text: `${name}${text} begins` });
    if (item.end !== undefined && item.end >= first && item.end <= last) {
      const why = (item.details || []).find(([detail]) => detail === 'ends');
      rows.push({ at: item.end, order: item.end_event, item, text: `${name}${text} ends${why ? `: ${why[1]}` : ''}` });
    }
  }
  run.violations.slice(0, 1).forEach((violation) => rows.push({ at: violation.at, order: violation.event + 0.5, violation }));
  return rows.sort((a, b) => a.at - b.at || a.order - b.order);
}

function historyRow(row) {
  const { touch, item, violation } = row;
  if (touch) {
    const made = element('tr', { class: 'row', tabindex: 0, 'data-touch': `${touch.run.number}-${touch.number}` },
      element('td', {}, element('span', { class: 'badge', text: touch.number })),
      element('td', { class: 'num', text: inMs(touch.at) }),
      element('td', { class: 'num soft', text: touch.event.toLocaleString('en-US') }),
      element('td', { text: touch.who }),
      element('td', { text: touch.does }),
      touch.run.cells.length > 1 && element('td', { text: touch.run.cells[touch.cell][1] }),
      element('td', { class: 'value' }, element('span', { class: touch.is_wrong ? 'wrong' : '', text: touch.value })),
      element('td', { class: 'num', text: touch.timestamp ?? '' }),
      element('td', {}, seenOf(touch) ?? ''),
      element('td', { class: 'value', text: touch.truth ?? '' }));
    const go = () => chooseTouch(touch);
    made.addEventListener('click', go);
    made.addEventListener('keydown', (event) => { if (event.key === 'Enter') go(); });
    return made;
  }
  if (violation) {
    return element('tr', { class: 'row judged', onclick: () => chooseViolation(violation) },
      element('td', { text: '✗' }), element('td', { class: 'num', text: inMs(violation.at) }),
      element('td', { class: 'num', text: violation.event.toLocaleString('en-US') }),
      element('td', { colspan: 7, text: `${violation.name}: ${violation.finding}` }));
  }
  return element('tr', { class: 'row context', onclick: () => choose({ item }) },
    element('td', {}), element('td', { class: 'num', text: inMs(row.at) }),
    element('td', { class: 'num', text: row.order.toLocaleString('en-US') }),
    element('td', { class: 'value', colspan: 7, text: row.text }));
}

function tabulate() {
  const runs = RUNS.filter((run) => run.history.length > 0);
  if (runs.length === 0) return;
  const names = RUNS[0].cells.map(([, name]) => name);
  const table = (run) => element('div', {},
    RUNS.length > 1 && element('h3', { text: run.run.title }),
    element('div', { class: 'scroll' }, element('table', {},
      element('thead', {}, element('tr', {}, ['', 'ms', 'event', 'who', 'does', run.cells.length > 1 && 'cell', 'value', 'write timestamp', 'replicas have', 'true of the log'].filter((text) => text !== false).map((text) => element('th', { scope: 'col', text })))),
      element('tbody', {}, rowsOf(run).map(historyRow)))));
  byId('history').replaceChildren(
    element('h2', { text: names.length > 1 ? 'The history of the cells' : 'The history of the cell' }),
    element('p', { class: 'soft', text: `${names.join('; ')}. The numbers are those in the timeline. What the replicas have is looked at without reading; what is true is computed from the log so far.` }),
    element('div', { class: 'tables' }, runs.map(table)));
}

function listViolations() {
  const all = RUNS.flatMap((run) => run.violations.slice(run.number === 0 ? 1 : 0));
  if (all.length === 0) return;
  const row = (violation) => element('tr', { class: 'row', tabindex: 0, onclick: () => chooseViolation(violation) },
    element('td', { class: 'num', text: inMs(violation.at) }),
    RUNS.length > 1 && element('td', { text: violation.run.run.title }),
    element('td', { class: 'mono', text: violation.name }),
    element('td', { class: 'value', text: violation.finding }));
  const table = (violations) => element('div', { class: 'scroll' }, element('table', {}, element('tbody', {}, violations.map(row))));
  // The first of each name, and the others on demand.
  const isFirst = (one, place) => all.findIndex((other) => other.run === one.run && other.name === one.name) === place;
  const [first, others] = [all.filter(isFirst), all.filter((one, place) => !isFirst(one, place))];
  byId('violations').replaceChildren(...[
    element('h2', { text: RUNS[0].violations.length > 1 ? 'Other violations' : 'Violations of the other run' }),
    table(first),
    others.length > 0 && element('details', {}, element('summary', { text: `${others.length} more of the same names` }), table(others)),
  ].filter(Boolean));
}

/** A sample of how a kind is drawn. */
function sample(draw) {
  const canvas = element('canvas', {});
  const ratio = window.devicePixelRatio || 1;
  [canvas.width, canvas.height] = [40 * ratio, 16 * ratio];
  const context = canvas.getContext('2d');
  context.scale(ratio, ratio);
  draw(context);
  return canvas;
}

function sampleOf(shape, colour, outcome) {
  return sample((context) => {
    context.fillStyle = colour;
    context.strokeStyle = colour;
    if (shape === 'line') context.fillRect(0, 5, 40, SIZE.strip);
    else if (shape === 'mark') { context.beginPath(); context.arc(20, 8, 4, 0, 2 * Math.PI); context.fill(); }
    else if (shape === 'arrow') {
      context.lineWidth = 1.5;
      if (outcome === 'lost') context.setLineDash([4, 3]);
      context.beginPath(); context.moveTo(2, 2); context.lineTo(34, 13); context.stroke();
      context.setLineDash([]);
      context.beginPath();
      if (outcome === 'lost') { context.moveTo(30, 9); context.lineTo(38, 16); context.moveTo(38, 8); context.lineTo(30, 16); context.stroke(); }
      else { context.moveTo(38, 14); context.lineTo(30, 14.5); context.lineTo(32, 8.5); context.fill(); }
    } else {
      const box = { item: { outcome }, left: 2, width: 32 };
      context.globalAlpha = outcome === 'interrupted' ? 0.35 : shape === 'bar' ? 0.3 : 0.72;
      context.beginPath(); context.roundRect(2, 1, 32, 14, 3); context.fill();
      context.globalAlpha = 1;
      if (outcome && outcome !== 'acknowledged') drawEnd(context, box.item, 2, 1, 32, 14);
    }
  });
}

function explainSigns() {
  const kinds = [...new Map(RUNS.flatMap((run) => run.kinds).map((kind) => [kind.kind, kind])).values()];
  const entries = kinds.map((kind) => [sampleOf(kind.shape, COLOUR[`c${kind.colour}`]), kind.name, kind.meaning]);
  entries.push(
    [sampleOf('box', COLOUR.unknown, 'unknown'), 'unknown outcome', 'the caller never learned what became of it'],
    [sampleOf('box', COLOUR.bad, 'refused'), 'refused', 'it was not applied and never will be'],
    [sampleOf('box', COLOUR.c4, 'interrupted'), 'interrupted', 'the process ended before the call did'],
    [sampleOf('arrow', COLOUR.bad, 'lost'), 'lost', 'a message that nobody received'],
    [sample((context) => { context.fillStyle = COLOUR.cell; context.beginPath(); context.roundRect(11, 0, 18, 16, 8); context.fill(); }), 'number', 'what happens to a cell of the violation, as in the table'],
    [sample((context) => { context.fillStyle = COLOUR.bad; context.fillRect(19, 0, 3, 16); }), 'violation', 'where an oracle found it; later ones are dashed'],
  );
  if (APART) entries.push([sample((context) => { context.fillStyle = COLOUR.apart; context.fillRect(19, 0, 2, 16); }), 'first difference', 'of the two runs']);
  byId('legend').replaceChildren(element('h2', { text: 'Legend' }), element('div', { class: 'items' },
    entries.map(([canvas, name, meaning]) => element('div', { class: 'entry' }, canvas, element('span', {}, element('b', { text: name }), ` ${meaning}`)))));
}

function describeRuns() {
  byId('run').replaceChildren(...RUNS.map((run) => element('p', {},
    `${run.run.title}: seed ${run.run.seed}, ${run.run.world}, profile ${run.run.profile}, commit ${run.run.commit}; trace of ${run.run.events} events, hash ${run.run.hash}. `,
    element('code', { text: run.run.command }))));
}

const KEYS = [
  ['wheel, + and −', 'zoom'],
  ['drag, ← and →', 'pan; with Shift by a whole window'],
  ['0', 'the whole run'],
  ['C', 'what led to the violation'],
  ['V', 'the violation'],
  ['D', 'the first difference of two runs'],
  ['[ and ]', 'the previous and next number of the history'],
  ['P and N', 'the previous and next event of the lane that is selected'],
  ['R', 'from a request to its response, and back'],
  ['/', 'find; Enter is the next match, Shift+Enter the previous one'],
  ['Escape', 'close, or select nothing'],
  ['?', 'these keys'],
];

function help() {
  const dialog = byId('help');
  dialog.replaceChildren(
    element('h2', { text: 'Keys' }),
    element('table', {}, element('tbody', {}, KEYS.map(([keys, text]) => element('tr', {}, element('td', {}, element('kbd', { text: keys })), element('td', { text }))))),
    element('p', {}, element('button', { text: 'Close', onclick: () => dialog.close() })));
  dialog.showModal();
}
