// The person's hands on this page: keyboard, on-screen pads and gamepad steer, or press a command.

import {Steering} from './steering.js';
import {$, element, set_text} from './drawing.js';

const kPadButtons = {3: 'take_over', 1: 'hand_back', 0: 'gripper', 9: 'pause', 12: 'faster', 13: 'slower'};
const kPadChords = {0: 'success', 1: 'failure', 2: 'reset'};  // while View (8) is down
/// What a gamepad's buttons for the commands are called.
export const gamepad_names = {take_over: 'Y', hand_back: 'B', gripper: 'A', pause: 'Menu', success: 'View + A', failure: 'View + B', reset: 'View + X',
  faster: 'D-pad up', slower: 'D-pad down'};

/// Nothing moves before `steer(true)`. Calls
///   on.send(action, seq)  what the hands say, as Steering does
///   on.act(command)       a command was pressed; returns whether it could be done
///   on.is_mine()          whether this person holds the arm
///   on.is_attentive()     whether they look at this window
///   on.dialog_is_open()   then keys and gamepad are the dialog's
export class Hands {
  constructor(contract, names, on) {
    this.on = on;
    this.gripper_open = contract.gripper_open ?? -1;
    this.gripper_closed = contract.gripper_closed ?? 1;
    this.expected = false;  // the arm was asked for: what is pressed from now on counts
    this.shortcuts = true;
    this.steering = new Steering(contract, (action, seq) => {
      on.send(action, seq);
      this.pads.show();
    });
    this.pads = new Pads($('pads'), this.steering, names);
    this.commands = new Map(Object.entries(contract.keys).filter(([name]) => !/^[+-]/.test(name)).map(([name, code]) => [code, name]));
    $('gripper').hidden = this.steering.gripper === null;
    $('speed').oninput = () => this.set_speed(Number($('speed').value));
    this.set_speed(this.steering.speed);
    this.listen_to_keys();
    addEventListener('contextmenu', () => this.steering.stop());  // the menu swallows the keys' release
    this.gamepads = new Gamepads(this.steering, on);
  }

  get groups() { return this.steering.groups; }

  /// Whether the hands move the arm now.
  steer(active) {
    if (active === this.steering.active) return;
    if (!active) {
      if (this.on.is_mine()) this.steering.stop();
      else this.steering.clear();
      this.steering.activate(false);
      this.pads.show();
    } else this.steering.activate(true);
  }

  /// The next take-over begins with nothing held: what was pressed before does not count.
  prepare() {
    this.steering.clear();
    this.expected = true;
  }

  /// No take-over is under way any more.
  expect_nothing() { this.expected = false; }

  get can_grip() { return this.steering.active && this.steering.gripper !== null; }

  /// Opens a closed gripper, closes an open one. `state`: the server's newest.
  turn_gripper(state) {
    const index = this.steering.gripper;
    const now = this.gripper_at(state) ?? state.human_action?.[index] ?? state.policy_action?.[index] ?? this.gripper_open;
    this.steering.set_gripper(this.is_open(now) ? this.gripper_closed : this.gripper_open);
  }

  /// On its button, what that would do; `state`: the server's newest, or null.
  show_gripper(state) {
    if (this.steering.gripper === null) return;
    const now = this.gripper_at(state);
    const how = now === null ? '' : this.is_open(now) ? 'open' : 'closed';
    $('gripper').dataset.value = how;
    set_text($('gripper').querySelector('.word'), {open: 'Close gripper', closed: 'Open gripper'}[how] ?? 'Gripper');
  }

  change_speed(by) { this.set_speed(this.steering.speed + by); }

  gripper_at(state) { return this.steering.gripper_command ?? state?.gripper ?? null; }
  is_open(value) { return Math.abs(value - this.gripper_open) <= Math.abs(value - this.gripper_closed); }

  set_speed(speed) {
    this.steering.set_speed(speed);
    $('speed').value = this.steering.speed;
    set_text($('speed-text'), `${Math.round(this.steering.speed * 100)} %`);
  }

  listen_to_keys() {
    addEventListener('keydown', event => this.key_down(event));
    addEventListener('keyup', event => this.steering.key_up(event.code));
    document.addEventListener('focusin', event => {  // typing, no steering
      if (event.target.matches('textarea')) this.steering.stop();
    });
    $('shortcuts').onchange = () => {
      this.shortcuts = $('shortcuts').checked;
      this.steering.stop();
    };
  }

  key_down(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return this.steering.stop();  // with Meta down some systems never tell of a release
    if (!this.shortcuts || this.on.dialog_is_open() || event.isComposing || belongs_to(event.target, event.code)) return;
    const command = this.commands.get(event.code);
    if (command === undefined && !this.steering.axes.has(event.code)) return;
    if (command !== undefined) {
      if (event.code === 'Space' && this.on.is_mine()) event.preventDefault();  // no scrolling
      if (!event.repeat && this.on.act(command)) event.preventDefault();
      return;
    }
    if (!this.steering.active && !this.expected) return;
    event.preventDefault();
    if (!event.repeat) this.steering.key_down(event.code);
  }
}

// What the focused element does with a key itself.
function belongs_to(target, code) {
  if (target.closest?.('textarea, input:not([type=range]):not([type=checkbox])')) return true;
  if (target.closest?.('input[type=range]')) return /^(Arrow|Home|End|Page)/.test(code);
  if (target.closest?.('button, a, summary, input[type=checkbox]')) return code === 'Space' || code === 'Enter';
  return false;
}

/// Pads and levers for mouse and fingers; their knobs also show what keys and sticks say.
class Pads {
  constructor(parent, steering, names) {
    this.steering = steering;
    this.names = names;
    this.parts = [];  // {right: {index, sign}|null, up: {index, sign}, knob}
    for (const group of steering.groups) {
      const both = element('div', {class: 'pair'});
      if (group.pad) both.append(this.make(group.pad.right, group.pad.up));
      if (group.lever) both.append(this.make(null, group.lever));
      parent.append(both);
    }
  }

  show() {
    const direction = this.steering.active ? this.steering.direction() : null;
    for (const {right, up, knob} of this.parts) {
      const x = direction && right ? direction[right.index] * right.sign : 0, y = direction ? direction[up.index] * up.sign : 0;
      knob.style.setProperty('--x', x);
      knob.style.setProperty('--y', -y);
      knob.classList.toggle('moved', x !== 0 || y !== 0);
    }
  }

  make(right, up) {
    const knob = element('span', {class: 'knob'});
    const pad = element('div', {class: right ? 'pad' : 'pad lever', role: 'img', 'data-testid': right ? `pad-${right.index}-${up.index}` : `lever-${up.index}`,
        'aria-label': `Pad: ${[right, up].filter(Boolean).map(axis => this.names.ways(axis)).join(', ')}`},
        this.edge('top', up, 1), this.edge('bottom', up, -1));
    if (right) pad.append(this.edge('left', right, -1), this.edge('right', right, 1));
    pad.append(knob);
    this.follow_pointer(pad, right, up);
    this.parts.push({right, up, knob});
    return pad;
  }

  edge(side, axis, sign) {
    const way = this.names.way(axis.index, axis.sign * sign);
    const number = element('span', {class: 'says'}, element('span', {class: 'axis', title: way.axis}, way.axis), way.sign);
    return element('span', {class: 'edge ' + side}, ...(way.seen ? [element('b', {}, way.seen)] : []), number,
        ...(way.code ? [this.names.key_mark(way.code)] : []));
  }

  // One finger a pad; a second one does not count.
  follow_pointer(pad, right, up) {
    const {steering} = this;
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
  }
}

/// The first gamepad that is connected, read at each picture of the screen. `on`: as of Hands.
class Gamepads {
  constructor(steering, on) {
    this.steering = steering;
    this.on = on;
    this.was_down = [];
    this.reading = false;
    addEventListener('gamepadconnected', () => {
      if (this.reading) return;
      this.reading = true;
      this.read();
    });
    addEventListener('gamepaddisconnected', () => steering.gamepad_gone());
  }

  read() {
    const gamepad = [...navigator.getGamepads()].find(one => one?.connected);
    if (!gamepad) {
      this.reading = false;
      this.steering.gamepad_gone();
      document.body.dataset.device = 'keyboard';
      set_text($('device'), 'Keyboard, pads');
      return;
    }
    document.body.dataset.device = 'gamepad';
    set_text($('device'), 'Keyboard, pads, ' + gamepad.id.replace(/\s*\(.*$/, ''));
    if (this.on.is_attentive() && document.hasFocus() && !this.on.dialog_is_open()) this.obey(gamepad);
    requestAnimationFrame(() => this.read());
  }

  obey(gamepad) {
    const down = gamepad.buttons.map(button => button.pressed);
    const chords = down[8] ? kPadChords : kPadButtons;
    down.forEach((is_down, index) => { if (is_down && !this.was_down[index] && chords[index]) this.on.act(chords[index]); });
    this.was_down = down;
    if (this.steering.active) this.steering.read_gamepad(gamepad);
  }
}
