// The console: a person watches a policy, takes over, corrects it and hands back.

import {Link} from './link.js';
import {Names} from './names.js';
import {Hands} from './hands.js';
import {tell_keys} from './help.js';
import {Course} from './course.js';
import {Instruction} from './instruction.js';
import {Recordings} from './recordings.js';
import {$, Bars, Cameras, draw_curves, element, set_text} from './drawing.js';

const contract = JSON.parse($('console-contract').textContent);
const can = {reset: true, refine: true, instruction: true, replay: true, ...contract.can};
const kNoMark = 'The simulation says itself how an episode ends.';
const show = document.body.dataset;

let state = null;         // the newest, or null while there is no connection
let refine = {state: 'idle'};
let attentive = document.visibilityState === 'visible';  // the person looks at this window
let stepped_at = null;    // when the newest step was heard of, performance.now()

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
    hands.expect_nothing();
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
    } else recordings.picture_arrived(header, blob);
  },
}, token);

const answers = {
  state(message) {
    if (message.step !== state?.step || message.episode !== state?.episode) stepped_at = performance.now();
    state = message;
    if (state.holder === 'me') hands.expect_nothing();
    course.follow(state);
    render();
  },
  episodes({episodes}) {
    if (course.learn(episodes.find(episode => episode.running)) && state) render();
    recordings.show(episodes.filter(episode => !episode.running));
  },
  refine(message) {
    refine = message;
    show_refine();
    render();
  },
  notice(message) {
    if (message.code === 'held') return seize();
    notice(message.level, message.text);
  },
  replay_step(message) { recordings.step_arrived(message); },
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

// ---- who looks, who may

const names = new Names(contract);
const hands = new Hands(contract, names, {
  send(action, seq) { link.send({type: 'input', action, seq}); },
  act, is_mine, is_attentive: () => attentive, dialog_is_open,
});

function is_mine() { return state?.holder === 'me'; }
function is_running() { return state?.episode_state === 'running'; }
function dialog_is_open() { return document.querySelector('dialog[open]') !== null; }

// Before any motion: who holds, whether someone looks.
function check_hands() {
  hands.steer(is_mine() && state.mode === 'human' && is_running() && attentive && !dialog_is_open());
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

const doing = {
  take_over() {
    if (state.holder === 'other') return seize();
    hands.prepare();
    link.send({type: 'take_over'});
  },
  hand_back() { link.send({type: 'hand_back'}); },
  pause() { link.send({type: 'pause', paused: state.mode !== 'paused'}); },
  success() { link.send({type: 'success'}); },
  failure() { link.send({type: 'failure'}); },
  reset() { link.send({type: 'reset'}); },
  refine() { link.send({type: 'refine'}); },
  gripper() {
    hands.turn_gripper(state);
    render();
  },
  slower() { hands.change_speed(-0.1); },
  faster() { hands.change_speed(0.1); },
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
    case 'gripper': return hands.can_grip;
    default: return true;
  }
}

function act(what) {
  if ((what === 'success' || what === 'failure') && can.mark === false) notice('warn', kNoMark);
  if (!may(what)) return false;
  doing[what]();
  return true;
}

async function seize() {
  hands.expect_nothing();
  if ($('seize').open || await answer_of($('seize')) !== 'yes') return;
  hands.prepare();
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

// ---- what is seen

const cameras = new Cameras($('cameras'), name => 'camera-' + name);
for (const name of contract.cameras ?? []) cameras.view(name);
const policy_bars = new Bars($('policy-action'), contract.action_size);
const human_bars = new Bars($('human-action'), contract.action_size);
$('action-names').append(...names.axes.map(name => element('span', {}, name)));
const course = new Course();

function who_acts() {
  if (!state) return ['off', 'Not connected', 'What you see is not live. Trying to reach the server.'];
  if (!is_running()) {
    const how = state.success === true ? 'success' : state.success === false ? 'failure' : state.outcome || 'not marked';
    return ['over', state.episode ? `Episode over: ${how}` : 'No episode runs',
            state.mode === 'paused' ? 'Paused: the next one waits.' : 'The next one begins when the robot asks.'];
  }
  if (state.asks) return ['paused', 'How did it end?', 'Success or failure; Resume if nobody can tell.'];
  if (state.mode === 'paused')
    return ['paused', 'Paused', is_mine() ? 'You hold the arm.' : state.holder === 'other' ? 'Someone else holds the arm.' : 'The arm holds still.'];
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
    course.show(state);
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
  hands.show_gripper(state);
  instruction.show(state?.instruction, Boolean(state) && can.instruction && (!is_running() || state.step === 0));
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
  set_text($('connection-text'), show.connection !== 'open' ? 'Not connected' :
      link.latencyMs === null ? 'Connected' : `Live, ${Math.max(1, Math.round(link.latencyMs))} ms`);
}
setInterval(tick, 100);

// ---- what is asked for: another instruction, a replay

const instruction = new Instruction(can.instruction, text => {
  link.send({type: 'instruction', text: text.replace(/\s+/g, ' ').trim()});
  state.instruction = text;  // until the server says so
  $('cameras').focus({preventScroll: true});
});

const recordings = new Recordings({
  can_replay: can.replay, axis_names: names.axes, period: 1000 / contract.control_hz,
  ask: (episode, step) => link.send({type: 'replay', episode, step}),
});

// ---- refining

function show_refine() {
  show.refine = refine.state;
  $('refine-text').dataset.value = refine.state;
  const said = {idle: 'Trains the policy on what was recorded.', running: 'Training', done: 'Done', failed: 'Failed'};
  set_text($('refine-text'), refine.text || said[refine.state] || '');
  $('refine-progress').hidden = refine.state !== 'running';
  if (refine.of > 0) {
    $('refine-progress').max = refine.of;
    $('refine-progress').value = refine.step ?? 0;
  } else $('refine-progress').removeAttribute('value');
  draw_curves($('curves'), refine.curves);
}

// ---- the beginning

$('help-open').onclick = () => answer_of($('help'));
if (can.mark === false) {
  set_text($('mark-hint'), kNoMark);
  for (const what of ['success', 'failure']) document.querySelector(`[data-does=${what}]`).setAttribute('aria-describedby', 'mark-hint');
}
$('mark-hint').hidden = can.mark !== false;
for (const what of ['refine', 'reset']) document.querySelector(`[data-does=${what}]`).hidden = !can[what];
document.querySelector('.refine').hidden = !can.refine;

tell_keys(contract.keys, hands.groups, names);
show_refine();
render();
link.connect();
