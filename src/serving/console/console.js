// The console: a person watches a policy, takes over, corrects it and hands back.

import {Link} from './link.js';
import {Steering} from './steering.js';
import {Bars, Cameras, draw_curves, draw_strip, element, label_name, runs_of, set_text, signed_text, source_name} from './drawing.js';

const contract = JSON.parse(document.getElementById('console-contract').textContent);
const {keys} = contract;
const can = {reset: true, refine: true, instruction: true, replay: true, ...contract.can};
const gripper_open = contract.gripper_open ?? -1, gripper_closed = contract.gripper_closed ?? 1;
const directions = contract.directions ?? {};  // '+0' -> 'away': what one sees in the picture
const kNoMark = 'The simulation says itself how an episode ends.';
const axis_names = contract.action_names ?? Array.from({length: contract.action_size}, (_, index) => String(index));
const $ = id => document.getElementById(id);
const page = document.body;
const show = page.dataset;

let state = null;         // the newest, or null while there is no connection
let refine = {state: 'idle'};
let attentive = document.visibilityState === 'visible';  // the person looks at this window
let stepped_at = null;    // when the newest step was heard of, performance.now()
let take_over_asked = false;

// ---- the connection

async function token() {
  if (!contract.token_needed) return null;
  const given = new URLSearchParams(location.hash.slice(1)).get('token');
  if (given) {
    sessionStorage.setItem('token', given);
    history.replaceState(null, '', location.pathname + location.search);
  }
  while (!sessionStorage.getItem('token')) {
    if (await answer_of($('token')) === 'yes') sessionStorage.setItem('token', $('token-value').value.trim());
    $('token-value').value = '';
  }
  return sessionStorage.getItem('token');
}

// Refused without a word: where the server answers otherwise, it was the token.
async function refused() {
  const reached = await fetch('/console/console.css', {cache: 'no-store'}).then(answer => answer.ok, () => false);
  if (!reached) return;
  sessionStorage.removeItem('token');
  set_text($('token-text'), 'The server did not accept that token (serve.token of its config).');
}

const link = new Link({
  open() {
    show.connection = 'open';
    link.send({type: 'visible', visible: attentive});
    render();
  },
  async closed(opened) {
    const before = show.connection;
    show.connection = 'closed';
    state = null;
    take_over_asked = false;
    Object.assign(show, {holder: 'nobody', mode: 'paused'});
    policy_bars.show(null);
    human_bars.show(null);
    render();
    if (before === 'open') notice('error', 'The server vanished. The arm is not yours any more; this page tries to reach it again.');
    if (!opened && contract.token_needed) await refused();
  },
  message(message) { answers[message.type]?.(message); },
  picture(header, blob) {
    if (header.kind === 'camera') {
      cameras.show(header, blob);
      link.send({type: 'shown', camera: header.camera, captured_ms: header.captured_ms});  // so that no backlog grows
    } else if (header.episode === replay.episode) replay_cameras.show(header, blob);
  },
}, token);

const answers = {
  state(message) {
    if (message.step !== state?.step || message.episode !== state?.episode) stepped_at = performance.now();
    state = message;
    if (state.holder === 'me') take_over_asked = false;
    follow_course();
    render();
  },
  episodes(message) { show_episodes(message.episodes); },
  refine(message) {
    refine = message;
    show_refine();
    render();
  },
  notice(message) {
    if (message.code === 'held') return seize();
    notice(message.level, message.text);
  },
  replay_step(message) { replay_arrived(message); },
};

function notice(level, text) {
  const close = element('button', {type: 'button', class: 'quiet', 'aria-label': 'Dismiss'}, '×');
  const line = element('div', {class: 'notice ' + level, 'data-testid': 'notice', 'data-level': level}, element('span', {}, text), close);
  close.onclick = () => line.remove();
  for (const old of $('notices').children)
    if (old.firstChild.textContent === text) old.remove();
  $('notices').append(line);
  while ($('notices').children.length > 4) $('notices').firstChild.remove();
  setTimeout(() => line.remove(), level === 'info' ? 6000 : 15000);
}

// ---- keys, named

let layout = null;  // this keyboard's letters, where the browser tells
const kKeyNames = {Space: 'Space', Enter: 'Enter', Escape: 'Esc', ArrowUp: '↑', ArrowDown: '↓', ArrowLeft: '←', ArrowRight: '→', Minus: '-', Equal: '=',
  BracketLeft: '[', BracketRight: ']', Comma: ',', Period: '.', Slash: '/', Semicolon: ';', Backspace: '⌫', ShiftLeft: 'Shift'};
function key_text(code) {
  return kKeyNames[code] ?? (layout?.get(code)?.toUpperCase() || code.replace(/^(Key|Digit)/, '').replace(/^Numpad/, 'Num '));
}

// ---- hands

const steering = new Steering(contract, (action, seq) => {
  link.send({type: 'input', action, seq});
  show_knobs();
});

function is_mine() { return state?.holder === 'me'; }
function is_running() { return state?.episode_state === 'running'; }
function dialog_is_open() { return document.querySelector('dialog[open]') !== null; }

// Before any motion: who holds, whether someone looks.
function check_hands() {
  const active = is_mine() && state.mode === 'human' && is_running() && attentive && !dialog_is_open();
  if (active === steering.active) return;
  if (!active) {
    if (is_mine()) steering.stop();
    else steering.clear();
    steering.activate(false);
    show_knobs();
  } else steering.activate(true);
}

function go_away() {
  if (!attentive) return;
  attentive = false;
  check_hands();
  link.send({type: 'visible', visible: false});
  render();
}

function come_back() {
  if (attentive || document.visibilityState !== 'visible') return;
  attentive = true;
  link.send({type: 'visible', visible: true});
  render();
}

addEventListener('blur', go_away);
addEventListener('pagehide', go_away);
addEventListener('focus', come_back);
document.addEventListener('freeze', go_away);
document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' ? document.hasFocus() && come_back() : go_away());
for (const sign of ['keydown', 'pointerdown']) addEventListener(sign, come_back, true);  // a hand on the window: it is looked at
addEventListener('contextmenu', () => steering.stop());  // the menu swallows the keys' release

const doing = {
  take_over() {
    if (state.holder === 'other') return seize();
    prepare_hands();
    link.send({type: 'take_over'});
  },
  hand_back() { link.send({type: 'hand_back'}); },
  pause() { link.send({type: 'pause', paused: state.mode !== 'paused'}); },
  success() { link.send({type: 'success'}); },
  failure() { link.send({type: 'failure'}); },
  reset() { link.send({type: 'reset'}); },
  refine() { link.send({type: 'refine'}); },
  gripper() {
    const now = steering.gripper_command ?? state.gripper ?? state.human_action?.[steering.gripper] ?? state.policy_action?.[steering.gripper] ?? gripper_open;
    const is_open = Math.abs(now - gripper_open) <= Math.abs(now - gripper_closed);
    steering.set_gripper(is_open ? gripper_closed : gripper_open);
    render();
  },
  slower() { set_speed(steering.speed - 0.1); },
  faster() { set_speed(steering.speed + 0.1); },
};

function may(what) {
  if (!state) return false;
  switch (what) {
    case 'take_over': return !is_mine() && is_running() && !state.asks;
    case 'hand_back': return is_mine();
    case 'pause': return true;  // anybody may stop the arm, at any time
    case 'success': case 'failure': return can.mark !== false && state.holder !== 'other' && is_running();
    case 'reset': return can.reset && state.holder !== 'other' && is_running();
    case 'refine': return can.refine && refine.state !== 'running';
    case 'gripper': return steering.active && steering.gripper !== null;
    default: return true;
  }
}

function act(what) {
  if ((what === 'success' || what === 'failure') && can.mark === false) notice('warn', kNoMark);
  if (!may(what)) return false;
  doing[what]();
  return true;
}

// The next take-over begins with nothing held: what was pressed before does not count.
function prepare_hands() {
  steering.clear();
  take_over_asked = true;
}

async function seize() {
  take_over_asked = false;
  if ($('seize').open || await answer_of($('seize')) !== 'yes') return;
  prepare_hands();
  link.send({type: 'take_over', force: true});
}

function answer_of(dialog) {
  dialog.returnValue = '';
  dialog.showModal();
  check_hands();
  return new Promise(resolve => dialog.addEventListener('close', () => { check_hands(); resolve(dialog.returnValue); }, {once: true}));
}

for (const button of document.querySelectorAll('[data-does]'))
  button.addEventListener('click', event => {
    const what = button.dataset.does;
    if (!act(what)) return;
    // so that the gripper's key does not press the button again
    if (event.detail > 0 || what === 'take_over' || what === 'refine') $('cameras').focus({preventScroll: true});
  });

// keyboard

const commands = new Map(Object.entries(keys).filter(([name]) => !/^[+-]/.test(name)).map(([name, code]) => [code, name]));
let shortcuts = true;
$('shortcuts').onchange = () => {
  shortcuts = $('shortcuts').checked;
  steering.stop();
};

// What the focused element does with a key itself.
function belongs_to(target, code) {
  if (target.closest?.('textarea, input:not([type=range]):not([type=checkbox])')) return true;
  if (target.closest?.('input[type=range]')) return /^(Arrow|Home|End|Page)/.test(code);
  if (target.closest?.('button, a, summary, input[type=checkbox]')) return code === 'Space' || code === 'Enter';
  return false;
}

addEventListener('keydown', event => {
  if (event.ctrlKey || event.altKey || event.metaKey) return steering.stop();  // with Meta down some systems never tell of a release
  if (!shortcuts || dialog_is_open() || event.isComposing || belongs_to(event.target, event.code)) return;
  const command = commands.get(event.code);
  if (command === undefined && !steering.axes.has(event.code)) return;
  if (command !== undefined) {
    if (event.code === 'Space' && is_mine()) event.preventDefault();  // no scrolling
    if (!event.repeat && act(command)) event.preventDefault();
    return;
  }
  if (!steering.active && !take_over_asked) return;
  event.preventDefault();
  if (!event.repeat) steering.key_down(event.code);
});
addEventListener('keyup', event => steering.key_up(event.code));
document.addEventListener('focusin', event => {  // typing, no steering
  if (event.target.matches('textarea')) steering.stop();
});

// pads

const pad_parts = [];  // {axes: [{index, sign}, {index, sign}|null], knob}

function key_mark(code) {
  return element('kbd', {'data-code': code}, key_text(code));
}

// Where an axis leads: as one sees it, where that is known, and in the robot's numbers.
function way_of(index, sign) {
  const seen = directions[(sign > 0 ? '+' : '-') + index];
  return {seen, axis: axis_names[index], sign: sign > 0 ? '+' : '−'};
}

function edge(side, axis, sign) {
  const signed = axis.sign * sign, way = way_of(axis.index, signed);
  const code = keys[(signed > 0 ? '+' : '-') + axis.index];
  const number = element('span', {class: 'says'}, element('span', {class: 'axis', title: way.axis}, way.axis), way.sign);
  return element('span', {class: 'edge ' + side}, ...(way.seen ? [element('b', {}, way.seen)] : []), number, ...(code ? [key_mark(code)] : []));
}

function said_of(axis) {
  const [less, more] = [-axis.sign, axis.sign].map(sign => way_of(axis.index, sign));
  return less.seen ? `${less.seen} and ${more.seen}` : axis_names[axis.index];
}

function make_pad(right, up) {
  const knob = element('span', {class: 'knob'});
  const pad = element('div', {class: right ? 'pad' : 'pad lever', role: 'img', 'data-testid': right ? `pad-${right.index}-${up.index}` : `lever-${up.index}`,
      'aria-label': `Pad: ${[right, up].filter(Boolean).map(said_of).join(', ')}`}, edge('top', up, 1), edge('bottom', up, -1));
  if (right) pad.append(edge('left', right, -1), edge('right', right, 1));
  pad.append(knob);
  let pointer = null, hold = null;
  const put = event => {
    const box = pad.getBoundingClientRect();
    const part = (at, from, size) => {
      const value = Math.max(-1, Math.min(1, ((at - from) / size - 0.5) * 2.4));
      return Math.abs(value) < 0.08 ? 0 : value;
    };
    steering.pad([...(right ? [[right, part(event.clientX, box.left, box.width)]] : []), [up, -part(event.clientY, box.top, box.height)]]);
  };
  pad.addEventListener('pointerdown', event => {
    if (event.button !== 0 || pointer !== null) return;
    event.preventDefault();
    if (!steering.active) return;
    pointer = event.pointerId;
    hold = steering.pads;  // replaced when everything is let go: then this finger does not count any more
    try { pad.setPointerCapture(pointer); } catch { /* a pointer that is gone */ }
    put(event);
  });
  pad.addEventListener('pointermove', event => { if (event.pointerId === pointer && hold === steering.pads) put(event); });
  const release = event => {
    if (event.pointerId !== pointer) return;
    pointer = null;
    if (hold === steering.pads) steering.pad([right, up].filter(Boolean).map(axis => [axis, 0]));
  };
  for (const end of ['pointerup', 'pointercancel', 'lostpointercapture']) pad.addEventListener(end, release);
  pad_parts.push({right, up, knob});
  return pad;
}

function show_knobs() {
  const direction = steering.active ? steering.direction() : null;
  for (const {right, up, knob} of pad_parts) {
    const x = direction && right ? direction[right.index] * right.sign : 0, y = direction ? direction[up.index] * up.sign : 0;
    knob.style.setProperty('--x', x);
    knob.style.setProperty('--y', -y);
    knob.classList.toggle('moved', x !== 0 || y !== 0);
  }
}

for (const group of steering.groups) {
  const both = element('div', {class: 'pair'});
  if (group.pad) both.append(make_pad(group.pad.right, group.pad.up));
  if (group.lever) both.append(make_pad(null, group.lever));
  $('pads').append(both);
}
$('gripper').hidden = steering.gripper === null;

function set_speed(speed) {
  steering.set_speed(speed);
  $('speed').value = steering.speed;
  set_text($('speed-text'), `${Math.round(steering.speed * 100)} %`);
}
$('speed').oninput = () => set_speed(Number($('speed').value));
set_speed(steering.speed);

// gamepad

const kPadButtons = {3: 'take_over', 1: 'hand_back', 0: 'gripper', 9: 'pause', 12: 'faster', 13: 'slower'};
const kPadChords = {0: 'success', 1: 'failure', 2: 'reset'};  // while View (8) is down
const kPadNames = {take_over: 'Y', hand_back: 'B', gripper: 'A', pause: 'Menu', success: 'View + A', failure: 'View + B', reset: 'View + X',
  faster: 'D-pad up', slower: 'D-pad down'};
let was_down = [];
let gamepad_loop = false;

function read_gamepads() {
  const gamepad = [...navigator.getGamepads()].find(one => one?.connected);
  if (!gamepad) {
    gamepad_loop = false;
    steering.gamepad_gone();
    show.device = 'keyboard';
    set_text($('device'), 'Keyboard, pads');
    return;
  }
  show.device = 'gamepad';
  set_text($('device'), 'Keyboard, pads, ' + gamepad.id.replace(/\s*\(.*$/, ''));
  if (attentive && document.hasFocus() && !dialog_is_open()) {
    const down = gamepad.buttons.map(button => button.pressed);
    const chords = down[8] ? kPadChords : kPadButtons;
    down.forEach((is_down, index) => { if (is_down && !was_down[index] && chords[index]) act(chords[index]); });
    was_down = down;
    if (steering.active) steering.read_gamepad(gamepad);
  }
  requestAnimationFrame(read_gamepads);
}

addEventListener('gamepadconnected', () => {
  if (gamepad_loop) return;
  gamepad_loop = true;
  read_gamepads();
});
addEventListener('gamepaddisconnected', () => steering.gamepad_gone());

// ---- what is seen

const cameras = new Cameras($('cameras'), name => 'camera-' + name);
for (const name of contract.cameras ?? []) cameras.view(name);
const policy_bars = new Bars($('policy-action'), contract.action_size);
const human_bars = new Bars($('human-action'), contract.action_size);
$('action-names').append(...axis_names.map(name => element('span', {}, name)));

// This episode so far: who acted in each step, and which steps take-overs made undesirable.
let course = {episode: '', sources: '', windows: []};

function follow_course() {
  if (state.episode !== course.episode) course = {episode: state.episode, sources: '', windows: []};
  const steps = state.step ?? 0;  // executed so far
  if (steps < course.sources.length) course.sources = course.sources.slice(0, steps);
  const source = state.source || (state.mode === 'human' ? 'h' : 'p');
  course.sources = course.sources.padEnd(steps, source);
  if (state.preview && !course.windows.some(window => window[0] === state.preview[0] && window[1] === state.preview[1]))
    course.windows.push(state.preview);
}

// What the next take-over would make undesirable: the last k policy steps since the last human one, [from, to).
function next_window() {
  const steps = course.sources.length;
  if (!state?.k || !is_running() || state.holder !== 'nobody') return null;
  const from = Math.max(course.sources.search(/p*$/), steps - state.k);
  return from < steps ? [from, steps] : null;
}

function course_labels() {
  const out = Array.from(course.sources, source => source === 'h' ? 'i' : ' ');
  for (const [from, to] of course.windows)
    for (let at = from; at < Math.min(to, out.length); ++at) out[at] = 'u';
  return out.join('');
}

function show_course() {
  const window = next_window();
  const steps = course.sources.length;
  draw_strip($('course'), course.sources, course_labels(), {length: Math.max(60, Math.ceil(steps * 1.1 / 60) * 60), window});
  const last = course.windows.at(-1);
  const span = ([from, to]) => to - from === 1 ? `step ${from}` : `steps ${from}–${to - 1}`;
  set_text($('preview-text'), last ? `The last take-over made ${span(last)} undesirable.` + (window ? ` One now would make ${span(window)} so, too.` : '')
      : window ? `A take-over now would make ${span(window)} undesirable.` : 'A take-over makes the policy’s last steps before it undesirable.');
}

function who_acts() {
  if (!state) return ['off', 'Not connected', 'What you see is not live. Trying to reach the server.'];
  if (!is_running()) {
    const how = state.success === true ? 'success' : state.success === false ? 'failure' : state.outcome || 'not marked';
    return ['over', state.episode ? `Episode over: ${how}` : 'No episode runs', state.mode === 'paused' ? 'Paused: the next one waits.' : 'The next one begins when the robot asks.'];
  }
  if (state.asks) return ['paused', 'How did it end?', 'Success or failure; Resume if nobody can tell.'];
  if (state.mode === 'paused') return ['paused', 'Paused', is_mine() ? 'You hold the arm.' : state.holder === 'other' ? 'Someone else holds the arm.' : 'The arm holds still.'];
  if (is_mine()) return ['me', 'You act', attentive ? '' : 'This window is not in front: the arm holds still.'];
  if (state.holder === 'other') return ['other', 'Someone else acts', 'Taking over asks you first.'];
  return ['policy', 'The policy acts', ''];
}

let spoken = '';
function render() {
  check_hands();
  const [who, title, why] = who_acts();
  show.who = who;
  if (state) {
    show.mode = state.mode;
    show.step = state.step ?? '';
    show.episode = state.episode ?? '';
    show.episodeState = state.episode_state;
    show.outcome = state.outcome ?? '';
    show.success = state.success === null || state.success === undefined ? '' : Number(state.success);
    show.holder = state.holder;
    set_text($('episode-name'), state.episode || 'No episode');
    set_text($('step-number'), state.episode ? `step ${state.step}` : '');
    policy_bars.show(state.policy_action);
    human_bars.show(state.human_action);
    show_number(document.querySelector('[data-testid=confidence]'), state.confidence, value => value.toFixed(2));
    $('confidence-bar').style.setProperty('--size', state.confidence ?? 0);
    for (const pool of ['desirable', 'intervention', 'undesirable'])
      show_number(document.querySelector(`[data-testid=pool-${pool}]`), state.pools?.[pool], value => value.toLocaleString('en'));
    show_course();
  }
  set_text($('who'), title);
  set_text($('why'), why || state?.reason_no_motion || '');
  document.title = {me: '● You act', paused: '❚❚ Paused', over: '■ Over', off: '○ Not connected'}[who] ?? title;
  document.title += ' – APO console';
  if (spoken !== title + why) {
    spoken = title + why;
    set_text($('spoken'), `${title}. ${why || state?.reason_no_motion || ''}`);
  }
  for (const button of document.querySelectorAll('[data-does]')) {
    const off = String(!may(button.dataset.does));
    if (button.getAttribute('aria-disabled') !== off) button.setAttribute('aria-disabled', off);
  }
  set_text(document.querySelector('[data-does=pause] .word'), state?.mode === 'paused' ? 'Resume' : 'Pause');
  if (steering.gripper !== null) {
    const now = steering.gripper_command ?? state?.gripper ?? null;
    const how = now === null ? '' : Math.abs(now - gripper_open) <= Math.abs(now - gripper_closed) ? 'open' : 'closed';
    $('gripper').dataset.value = how;
    set_text($('gripper').querySelector('.word'), {open: 'Close gripper', closed: 'Open gripper'}[how] ?? 'Gripper');
  }
  show_instruction();
}

function show_number(node, value, text) {
  const known = value !== null && value !== undefined;
  node.dataset.value = known ? value : '';
  set_text(node, known ? text(value) : '–');
}

function tick() {
  const now = performance.now();
  const clock = document.querySelector('[data-testid=since-last-step]');
  if (!state || stepped_at === null) show_number(clock, null);
  else {
    const seconds = (now - stepped_at) / 1000;
    clock.dataset.value = seconds.toFixed(3);
    set_text(clock, seconds < 60 ? seconds.toFixed(1) + ' s' : Math.floor(seconds / 60) + ' min');
    clock.classList.toggle('late', is_running() && state.mode !== 'paused' && seconds > Math.max(1, 5 / contract.control_hz));
  }
  cameras.tell_age(link.clockMs === null ? null : Date.now() + link.clockMs);
  set_text($('connection-text'), show.connection === 'open' ? (link.latencyMs === null ? 'Connected' : `Live, ${Math.max(1, Math.round(link.latencyMs))} ms`) : 'Not connected');
}
setInterval(tick, 100);

// ---- the instruction

const instruction = $('instruction');
let instruction_edited = false;

function may_instruct() { return Boolean(state) && can.instruction && (!is_running() || state.step === 0); }

function show_instruction() {
  const editable = may_instruct();
  instruction.readOnly = !editable;
  if (!editable) instruction_edited = false;
  const text = state?.instruction;
  if (text !== undefined && !instruction_edited && instruction.dataset.value !== text) {
    instruction.dataset.value = text;
    instruction.textContent = text;
    instruction.value = text;
  } else if (text !== undefined && !instruction_edited && instruction.value !== text) instruction.value = text;
  $('instruction-send').setAttribute('aria-disabled', String(!instruction_edited));
  set_text($('instruction-hint'), !can.instruction ? 'Given by the task.' : instruction_edited ? 'Enter sets it, Escape leaves it as it was.' :
      editable ? 'For the next episode; empty: as the robot says.' : 'Can be changed between episodes.');
}

instruction.oninput = () => {
  instruction_edited = instruction.value !== state?.instruction;
  show_instruction();
};
instruction.onkeydown = event => {
  if (event.key === 'Escape') {
    instruction_edited = false;
    show_instruction();
    instruction.blur();
  }
  if (event.key === 'Enter' && !event.isComposing) {
    event.preventDefault();
    $('instruction-form').requestSubmit();
  }
};
$('instruction-form').onsubmit = event => {
  event.preventDefault();
  if (!instruction_edited || !may_instruct()) return;
  link.send({type: 'instruction', text: instruction.value.replace(/\s+/g, ' ').trim()});
  instruction_edited = false;
  state.instruction = instruction.value;  // until the server says so
  show_instruction();
  $('cameras').focus({preventScroll: true});
};

// ---- what was recorded

let episodes = [];
const rows = new Map();  // name -> {item, text}

function success_text(success) { return success === true ? 'success' : success === false ? 'failure' : 'not marked'; }

function show_episodes(all) {
  const running = all.find(episode => episode.running);
  if (running && running.name === course.episode && running.sources.length >= course.sources.length) {
    course.sources = running.sources;
    course.windows = runs_of(running.labels ?? '').filter(run => run.letter === 'u').map(run => [run.from, run.to]);
    if (state) render();
  }
  episodes = all.filter(episode => !episode.running);
  const longest = Math.max(1, ...episodes.map(episode => episode.steps));
  const seen = new Set();
  let before = null;
  for (const episode of episodes) {  // oldest first; each goes before the one before it
    seen.add(episode.name);
    const text = JSON.stringify([episode, longest]);
    let row = rows.get(episode.name);
    if (!row || row.text !== text) {
      const item = element('li', {}, episode_row(episode, longest));
      if (row) row.item.replaceWith(item);
      row = {item, text};
      rows.set(episode.name, row);
    }
    if (before ? row.item.nextElementSibling !== before : row.item.nextElementSibling) $('episodes').insertBefore(row.item, before);
    if (!row.item.isConnected) $('episodes').insertBefore(row.item, before);
    before = row.item;
  }
  for (const [name, row] of rows)
    if (!seen.has(name)) {
      row.item.remove();
      rows.delete(name);
    }
  $('no-episodes').hidden = episodes.length > 0;
  mark_replayed();
  if (replay.episode) show_replay_strip();
}

function episode_row(episode, longest) {
  const take_overs = runs_of(episode.sources).filter(run => run.letter === 'h').length;
  const strip = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  strip.setAttribute('class', 'strip');
  strip.setAttribute('role', 'img');
  strip.setAttribute('preserveAspectRatio', 'none');
  draw_strip(strip, episode.sources, episode.labels ?? '', {length: longest});
  const row = element('button', {type: 'button', 'data-testid': 'episode-row', 'data-episode': episode.name,
      'data-success': episode.success === true ? 1 : episode.success === false ? 0 : ''},
      element('span', {class: 'verdict'}, episode.success === true ? '✓' : episode.success === false ? '✗' : '–'),
      element('span', {class: 'name'}, episode.name), strip,
      element('span', {class: 'facts'}, element('span', {}, `${success_text(episode.success)}${episode.outcome && episode.outcome !== success_text(episode.success) ? ', ' + episode.outcome : ''}`),
              element('span', {class: 'soft'}, `${episode.steps} ${episode.steps === 1 ? 'step' : 'steps'}, ${take_overs === 0 ? 'no take-over' : take_overs === 1 ? '1 take-over' : take_overs + ' take-overs'}`)));
  row.title = episode.instruction ?? '';
  if (can.replay) row.onclick = () => open_replay(episode.name);
  return row;
}

// ---- replay

const replay_cameras = new Cameras($('replay-cameras'), name => 'replay-camera-' + name);
const replay = {episode: '', step: 0, wanted: null, asked_at: null, timer: null};
const kSourceNumber = {e: 0, p: 1, h: 2};  // as action_source in the file

function replayed() { return episodes.find(episode => episode.name === replay.episode); }

function mark_replayed() {
  for (const row of $('episodes').querySelectorAll('[data-testid=episode-row]')) {
    const is_shown = row.dataset.episode === replay.episode;
    if (is_shown) row.setAttribute('aria-current', 'true');
    else row.removeAttribute('aria-current');
  }
}

function open_replay(name) {
  stop_replay();
  Object.assign(replay, {episode: name, step: 0, wanted: null, asked_at: null});
  $('replay').hidden = false;
  set_text($('replay-title'), `Replay of ${name}`);
  set_text($('replay-text'), '');
  $('replay-step').max = Math.max(0, replayed().steps - 1);
  show_replay_strip();
  mark_replayed();
  ask_step(0);
  $('replay').scrollIntoView({block: 'nearest', behavior: matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth'});
}

function close_replay() {
  stop_replay();
  const row = $('episodes').querySelector('[aria-current]');
  replay.episode = '';
  Object.assign($('replay').dataset, {episode: '', step: '', sources: '[]', labels: '[]'});
  $('replay').hidden = true;
  mark_replayed();
  row?.focus();
}

function show_replay_strip() {
  const episode = replayed();
  if (!episode) return close_replay();
  Object.assign($('replay').dataset, {episode: episode.name, sources: JSON.stringify(Array.from(episode.sources, letter => kSourceNumber[letter] ?? -1)),
      labels: JSON.stringify(Array.from(episode.labels ?? '', label_name))});
  draw_strip($('replay-strip'), episode.sources, episode.labels ?? '', {cursor: replay.step});
  set_text($('replay-place'), `${replay.step + 1} / ${episode.steps}`);
}

// One question at a time; the newest wish waits.
function ask_step(step) {
  const now = performance.now();
  if (replay.asked_at !== null && now - replay.asked_at < 1000) {
    replay.wanted = step;
    return;
  }
  if (link.send({type: 'replay', episode: replay.episode, step})) replay.asked_at = now;
}

function replay_arrived(message) {
  if (message.episode !== replay.episode) return;
  replay.asked_at = null;
  replay.step = message.step;
  $('replay').dataset.step = message.step;
  if (replay.wanted === null) $('replay-step').value = message.step;
  show_replay_strip();
  $('replay-text').replaceChildren(element('b', {}, `${source_name(message.source)}, ${label_name(message.label)}`),
      ...(message.action ?? []).map((value, index) => element('span', {}, `${axis_names[index]} ${signed_text(value)}`)));
  if (replay.wanted === null) return;
  const wanted = replay.wanted;
  replay.wanted = null;
  ask_step(wanted);
}

function stop_replay() {
  clearInterval(replay.timer);
  replay.timer = null;
  set_text($('replay-play'), 'Play');
}

$('replay-step').oninput = () => {
  stop_replay();
  ask_step(Number($('replay-step').value));
};
$('replay-strip').onclick = event => {
  const box = $('replay-strip').getBoundingClientRect();
  const last = Number($('replay-step').max);
  ask_step(Math.max(0, Math.min(last, Math.floor((event.clientX - box.left) / box.width * (last + 1)))));
};
$('replay-play').onclick = () => {
  if (replay.timer !== null) return stop_replay();
  const last = Number($('replay-step').max);
  if (replay.step >= last) ask_step(0);
  set_text($('replay-play'), 'Stop');
  replay.timer = setInterval(() => {
    if (replay.step >= last) return stop_replay();
    if (replay.asked_at === null || performance.now() - replay.asked_at > 1000) ask_step(replay.step + 1);
  }, steering.period);
};
$('replay-close').onclick = close_replay;

// ---- refining

function show_refine() {
  show.refine = refine.state;
  $('refine-text').dataset.value = refine.state;
  set_text($('refine-text'), refine.text || {idle: 'Trains the policy on what was recorded.', running: 'Training', done: 'Done', failed: 'Failed'}[refine.state] || '');
  $('refine-progress').hidden = refine.state !== 'running';
  if (refine.of > 0) {
    $('refine-progress').max = refine.of;
    $('refine-progress').value = refine.step ?? 0;
  } else $('refine-progress').removeAttribute('value');
  draw_curves($('curves'), refine.curves);
}

// ---- keys, told

function show_keys() {
  for (const mark of document.querySelectorAll('kbd[data-code]')) set_text(mark, key_text(mark.dataset.code));
  for (const button of document.querySelectorAll('[data-does]')) {
    const code = keys[button.dataset.does];
    if (code) button.setAttribute('aria-keyshortcuts', key_text(code));
  }
}

for (const button of document.querySelectorAll('[data-does]')) {
  const word = element('span', {class: 'word'}, button.lastChild.textContent);
  button.lastChild.replaceWith(word);
  const code = keys[button.dataset.does];
  if (code) button.append(key_mark(code));
}

const kSaid = {take_over: 'Take over', hand_back: 'Hand back', pause: 'Pause, resume', success: 'Success', failure: 'Failure', reset: 'Reset', gripper: 'Open or close the gripper',
  slower: 'Slower', faster: 'Faster'};
function help_row(what, codes, gamepad) {
  const key = element('td', {});
  for (const code of codes) if (code) key.append(key_mark(code), ' ');
  $('help-rows').append(element('tr', {}, element('th', {scope: 'row'}, what), key, element('td', {}, gamepad ?? '')));
}
for (const [what, said] of Object.entries(kSaid))
  if (keys[what] || kPadNames[what]) help_row(said, [keys[what]], kPadNames[what]);
const kSticks = [['left stick, left and right', 'left stick, up and down', 'triggers'], ['right stick, left and right', 'right stick, up and down', 'shoulders']];
steering.groups.forEach((group, i) => {
  const axes = [group.pad?.right, group.pad?.up, group.lever].map((axis, at) => ({...axis, at})).filter(axis => axis.index !== undefined);
  axes.sort((a, b) => a.index - b.index).forEach(axis => help_row(way_of(axis.index, 1).seen ? `${said_of({...axis, sign: 1})} (${axis_names[axis.index]} − and +)` : axis_names[axis.index] + ' − and +', [keys['-' + axis.index], keys['+' + axis.index]], kSticks[i]?.[axis.at]));
});
$('help-open').onclick = () => answer_of($('help'));
if (can.mark === false) {
  set_text($('mark-hint'), kNoMark);
  for (const what of ['success', 'failure']) document.querySelector(`[data-does=${what}]`).setAttribute('aria-describedby', 'mark-hint');
}
$('mark-hint').hidden = can.mark !== false;
for (const what of ['refine', 'reset']) document.querySelector(`[data-does=${what}]`).hidden = !can[what];
document.querySelector('.refine').hidden = !can.refine;

navigator.keyboard?.getLayoutMap?.().then(map => {
  layout = map;
  show_keys();
}, () => {});
show_keys();
show_refine();
render();
link.connect();
