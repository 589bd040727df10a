// What the person's hands say: keyboard, on-screen pads and gamepad, added into one action.

const kDeadZone = 0.12;  // of a stick, which never rests at zero
const kSides = {  // where a key lies: how a pad is laid out, so that hand and pad agree
  right: ['KeyD', 'ArrowRight', 'KeyL', 'Numpad6'], left: ['KeyA', 'ArrowLeft', 'KeyJ', 'Numpad4'],
  up: ['KeyW', 'ArrowUp', 'KeyI', 'Numpad8'], down: ['KeyS', 'ArrowDown', 'KeyK', 'Numpad2'],
};

function side_of(code) {
  return Object.keys(kSides).find(side => kSides[side].includes(code)) ?? '';
}

/// Which dimension, and with which sign, goes right and up on the screen, from where its keys lie.
/// Returns {right: {index, sign}, up: {index, sign}}.
function laid_out(first, second, keys) {
  const found = {};
  for (const index of [first, second])
    for (const sign of [1, -1]) {
      const side = side_of(keys[(sign > 0 ? '+' : '-') + index]);
      if (side === 'right' || side === 'up') found[side] ??= {index, sign};
    }
  if (found.right && found.up && found.right.index !== found.up.index) return found;
  return {right: {index: first, sign: 1}, up: {index: second, sign: 1}};
}

/// The dimensions without the gripper as controls for a hand: groups of a pad (two dimensions) and a lever (one).
/// Returns [{right, up} | {lever} ...] as [{pad: {right, up}|null, lever: {index, sign}|null}].
export function groups_of(size, gripper, keys) {
  const free = [...Array(size).keys()].filter(index => index !== gripper);
  const groups = [];
  for (let at = 0; at < free.length; at += 3) {
    const [a, b, c] = free.slice(at, at + 3);
    groups.push(b === undefined ? {pad: null, lever: {index: a, sign: 1}}
                                : {pad: laid_out(a, b, keys), lever: c === undefined ? null : {index: c, sign: 1}});
  }
  return groups;
}

/// Sends `send(action, seq)` while it is active: at once on every change and at the control rate besides.
/// Numbers within [-1, 1] times the speed; the gripper's is null until the person moves it: it stays as it is.
export class Steering {
  constructor(contract, send) {
    this.size = contract.action_size;
    this.gripper = contract.gripper ?? null;
    this.period = 1000 / contract.control_hz;
    this.keys = contract.keys;
    this.groups = groups_of(this.size, this.gripper, this.keys);
    this.axes = new Map();  // code -> {index, sign}
    for (let index = 0; index < this.size; ++index)
      for (const sign of [1, -1]) {
        const code = this.keys[(sign > 0 ? '+' : '-') + index];
        if (code) this.axes.set(code, {index, sign});
      }
    this.send = send;
    this.speed = contract.speed ?? 0.5;
    this.seq = 0;
    this.active = false;
    this.timer = null;
    this.clear();
  }

  /// Everything let go; the gripper's command forgotten. A stick must return to rest before it counts again.
  clear() {
    this.held = new Set();
    this.pads = new Float64Array(this.size);
    this.stick = new Float64Array(this.size);
    this.stick_rested = false;
    this.gripper_command = null;
  }

  /// Whether the person's hands move the arm now.
  activate(active) {
    if (active === this.active) return;
    this.active = active;
    clearInterval(this.timer);
    if (active) {
      this.emit();
      this.timer = setInterval(() => this.emit(), this.period);
    }
  }

  /// Lets everything go, and says so.
  stop() {
    const gripper = this.gripper_command;
    this.clear();
    this.gripper_command = gripper;  // a stop must not drop what the hand holds
    this.emit();
  }

  /// Each number without the gripper, before the speed, [A].
  direction() {
    const out = Array.from(this.pads, (value, index) => value + this.stick[index]);
    for (const code of this.held) {
      const axis = this.axes.get(code);
      out[axis.index] += axis.sign;
    }
    return out.map(value => Math.max(-1, Math.min(1, value)));
  }

  action() {
    return this.direction().map((value, index) =>
        index === this.gripper ? this.gripper_command : Math.round(value * this.speed * 1e4) / 1e4 + 0);
  }

  is_moving() { return this.direction().some(value => value !== 0); }

  emit() {
    if (this.active) this.send(this.action(), ++this.seq);
  }

  key_down(code) {
    if (!this.axes.has(code) || this.held.has(code)) return;
    this.held.add(code);
    this.emit();
  }

  key_up(code) {
    if (this.held.delete(code)) this.emit();
  }

  /// A pad's axes to what its knob says, [[axis, value in [-1, 1] of its screen direction] ...].
  pad(moves) {
    let changed = false;
    for (const [axis, value] of moves) {
      const signed = axis.sign * value;
      changed ||= this.pads[axis.index] !== signed;
      this.pads[axis.index] = signed;
    }
    if (changed) this.emit();
  }

  set_gripper(command) {
    this.gripper_command = command;
    this.emit();
  }

  set_speed(speed) {
    this.speed = Math.max(0.05, Math.min(1, Math.round(speed * 20) / 20));
    this.emit();
  }

  /// A gamepad in the standard mapping: sticks are the pads of the first two groups, triggers and shoulders the levers.
  read_gamepad(gamepad) {
    const stick = new Float64Array(this.size);
    const put = (axis, value) => {
      if (axis && Math.abs(value) > kDeadZone)
        stick[axis.index] += axis.sign * Math.sign(value) * (Math.abs(value) - kDeadZone) / (1 - kDeadZone);
    };
    const button = index => gamepad.buttons[index]?.value ?? 0;
    this.groups.slice(0, 2).forEach((group, i) => {
      put(group.pad?.right, gamepad.axes[2 * i] ?? 0);
      put(group.pad?.up, -(gamepad.axes[2 * i + 1] ?? 0));
      put(group.lever, i === 0 ? button(7) - button(6) : button(5) - button(4));
    });
    const rests = stick.every(value => value === 0);
    if (!this.stick_rested && !rests) return;
    this.stick_rested = true;
    // a resting hand trembles: only what can be seen is sent
    if (stick.every((value, index) => Math.abs(value - this.stick[index]) < 0.01) && rests === this.stick.every(value => value === 0)) return;
    this.stick = stick;
    this.emit();
  }

  gamepad_gone() {
    if (this.stick.every(value => value === 0)) return;
    this.stick.fill(0);
    this.emit();
  }
}
