// Pictures, bars, strips of steps and curves.

const kSvg = 'http://www.w3.org/2000/svg';
const kSource = {e: 'expert', p: 'policy', h: 'human'};
const kLabel = {d: 'desirable', i: 'intervention', u: 'undesirable', n: 'neither', '-': 'left out'};
export const source_name = letter => kSource[letter] ?? 'unknown';
export const label_name = letter => kLabel[letter] ?? 'unlabeled';

export const $ = id => document.getElementById(id);

export function element(name, attributes = {}, ...children) {
  const out = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) out.setAttribute(key, value);
  out.append(...children);
  return out;
}

function svg_element(name, attributes) {
  const out = document.createElementNS(kSvg, name);
  for (const [key, value] of Object.entries(attributes)) out.setAttribute(key, value);
  return out;
}

/// A canvas per camera with its name; a picture that comes while one is being decoded replaces those that wait.
export class Cameras {
  constructor(parent, testid) {
    this.parent = parent;
    this.testid = testid;  // camera name -> data-testid
    this.views = new Map();
  }

  view(name) {
    let view = this.views.get(name);
    if (view) return view;
    const canvas = element('canvas', {role: 'img', 'aria-label': `Camera ${name}`, 'data-testid': this.testid(name), 'data-frame': 0, 'data-captured-ms': ''});
    canvas.width = 4;
    canvas.height = 3;
    const age = element('span', {class: 'age'});
    this.parent.append(element('figure', {class: 'camera'}, canvas, element('figcaption', {}, element('span', {class: 'name'}, name), age)));
    view = {canvas, age, next: null, busy: false, frames: 0};
    this.views.set(name, view);
    this.parent.style.setProperty('--count', this.views.size);
    return view;
  }

  async show(header, blob) {
    const view = this.view(header.camera);
    view.next = {header, blob};
    if (view.busy) return;
    view.busy = true;
    while (view.next) {
      const {header: of, blob: data} = view.next;
      view.next = null;
      let picture;
      try { picture = await createImageBitmap(data); } catch { view.age.textContent = 'unreadable picture'; continue; }
      const {canvas} = view;
      if (canvas.width !== picture.width || canvas.height !== picture.height) {
        canvas.width = picture.width;
        canvas.height = picture.height;
      }
      canvas.getContext('2d').drawImage(picture, 0, 0);
      picture.close();
      canvas.dataset.capturedMs = of.captured_ms ?? '';
      canvas.dataset.step = of.step ?? '';
      canvas.dataset.frame = ++view.frames;
      view.captured_ms = of.captured_ms;
    }
    view.busy = false;
  }

  /// How old the picture shown is; `now`: the server's clock, ms, or null.
  tell_age(now) {
    for (const view of this.views.values()) {
      if (now === null || !view.captured_ms) { set_text(view.age, ''); continue; }
      const age = Math.max(0, now - view.captured_ms);
      set_text(view.age, age < 1000 ? `${Math.round(age / 10) * 10} ms` : `${(age / 1000).toFixed(1)} s old`);
      view.age.classList.toggle('late', age > 1000);
    }
  }
}

export function set_text(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function signed_text(value) {
  return (value <= -0.005 ? '−' : '') + Math.abs(value).toFixed(2);
}

/// One bar a dimension, from the middle; values within [-1, 1].
export class Bars {
  constructor(parent, size) {
    this.parent = parent;
    this.rows = Array.from({length: size}, () => {
      const fill = element('span', {class: 'fill'}), number = element('span', {class: 'number'});
      parent.append(element('div', {class: 'bar'}, element('span', {class: 'track', 'aria-hidden': 'true'}, fill), number));
      return {fill, number};
    });
  }

  show(values) {
    const text = JSON.stringify(values ?? null);
    if (this.parent.dataset.value === text) return;
    this.parent.dataset.value = text;
    this.rows.forEach((row, index) => {
      const value = values?.[index] ?? null;
      const clamped = Math.max(-1, Math.min(1, value ?? 0));
      row.fill.style.setProperty('--from', Math.min(0, clamped));
      row.fill.style.setProperty('--size', Math.abs(clamped));
      row.number.textContent = value === null ? '–' : signed_text(value);
    });
  }
}

/// "ppph" -> [{letter: "p", from: 0, to: 3}, {letter: "h", from: 3, to: 4}]
export function runs_of(letters) {
  const out = [];
  for (let at = 0; at < letters.length; ++at) {
    if (out.at(-1)?.letter === letters[at]) out.at(-1).to = at + 1;
    else out.push({letter: letters[at], from: at, to: at + 1});
  }
  return out;
}

function told(letters, name) {
  return runs_of(letters).map(run => `${name(run.letter)} ${run.from}${run.to - run.from > 1 ? '–' + (run.to - 1) : ''}`).join(', ');
}

/// Steps from left to right: who acted above, how it is labeled below. Thin is the policy, full height a person;
/// full height below is undesirable: the colors are not the only difference.
/// more: {length (steps that fit), window: [from, to), cursor}
export function draw_strip(svg, sources, labels, more = {}) {
  const length = Math.max(1, more.length ?? sources.length);
  svg.setAttribute('viewBox', `0 0 ${length} 24`);
  const marks = [];
  const bar = (kind, from, to, top, height) =>
      marks.push(svg_element('rect', {class: kind, x: from, width: to - from, y: top, height}));
  bar('ground', 0, length, 0, 24);
  for (const run of runs_of(sources)) {
    const tall = run.letter !== 'p';
    bar(source_name(run.letter), run.from, run.to, tall ? 0 : 4, tall ? 13 : 9);
  }
  for (const run of runs_of(labels)) {
    if (!'diu'.includes(run.letter)) continue;
    const tall = run.letter === 'u';
    bar('label ' + label_name(run.letter), run.from, run.to, 15, tall ? 9 : 4);
  }
  if (more.window) bar('window', more.window[0], more.window[1], 15, 9);
  if (more.cursor !== undefined)
    marks.push(svg_element('line', {class: 'cursor', x1: more.cursor + 0.5, x2: more.cursor + 0.5, y1: 0, y2: 24}));
  svg.replaceChildren(...marks);
  const text = sources ? `${sources.length} steps. Acted: ${told(sources, source_name)}.` +
      (labels ? ` Labels: ${told(labels, label_name)}.` : '') : 'No step yet';
  if (svg.getAttribute('aria-label') !== text) svg.setAttribute('aria-label', text);
}

const kTone = {reward_desirable: 'desirable', reward_undesirable: 'undesirable', action_l1_desirable: 'desirable',
  action_l1_undesirable: 'undesirable'};

function short(value) {
  const size = Math.abs(value);
  return (value < 0 ? '−' : '') + (size !== 0 && (size < 0.01 || size >= 1e4) ? size.toExponential(1) : String(+size.toPrecision(3)));
}

/// One small chart a curve, {name: [[step, value] ...]}.
export function draw_curves(parent, curves) {
  const kWidth = 260, kHeight = 72;
  parent.replaceChildren(...Object.entries(curves ?? {}).filter(([, points]) => points.some(point => Number.isFinite(point[1]))).map(([name, points]) => {
    const xs = points.map(point => point[0]), ys = points.map(point => point[1]).filter(Number.isFinite);
    const left = Math.min(...xs), right = Math.max(...xs, left + 1), low = Math.min(...ys), high = Math.max(...ys);
    const flat = high === low;
    const place = ([x, y]) => `${((x - left) / (right - left) * kWidth).toFixed(1)},${
        (flat ? kHeight / 2 : kHeight - (y - low) / (high - low) * kHeight).toFixed(1)}`;
    const svg = svg_element('svg', {viewBox: `-4 -4 ${kWidth + 8} ${kHeight + 8}`, role: 'img', 'data-name': name, class: 'curve ' + (kTone[name] ?? '')});
    const title = name.replace('action_l1', 'action error').replaceAll('_', ' '), last = ys.at(-1);
    svg.setAttribute('aria-label', `${title}: from ${short(ys[0])} at step ${left} to ${short(last)} at step ${xs.at(-1)}`);
    if (low < 0 && high > 0) {
      const zero = kHeight + low / (high - low) * kHeight;
      svg.append(svg_element('line', {class: 'zero', x1: 0, x2: kWidth, y1: zero, y2: zero}));
    }
    svg.append(svg_element('polyline', {points: points.filter(point => Number.isFinite(point[1])).map(place).join(' ')}));
    return element('figure', {}, element('figcaption', {}, element('span', {}, title), element('span', {class: 'last'}, short(last))), svg,
                   element('p', {class: 'soft'}, element('span', {}, `${short(low)} … ${short(high)}`), element('span', {}, `step ${xs.at(-1)}`)));
  }));
}
