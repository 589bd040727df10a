// This episode so far: who acted in each step, and which steps take-overs made undesirable.

import {$, draw_strip, runs_of, set_text} from './drawing.js';

function span([from, to]) { return to - from === 1 ? `step ${from}` : `steps ${from}–${to - 1}`; }

export class Course {
  constructor() { this.begin(''); }

  begin(episode) {
    this.episode = episode;
    this.sources = '';  // a letter a step
    this.windows = [];  // [from, to)
  }

  /// The server's newest state.
  follow(state) {
    if (state.episode !== this.episode) this.begin(state.episode);
    const steps = state.step ?? 0;  // executed so far
    if (steps < this.sources.length) this.sources = this.sources.slice(0, steps);
    const source = state.source || (state.mode === 'human' ? 'h' : 'p');
    this.sources = this.sources.padEnd(steps, source);
    if (state.preview && !this.windows.some(window => window[0] === state.preview[0] && window[1] === state.preview[1]))
      this.windows.push(state.preview);
  }

  /// What is recorded of the running episode, which knows more than a page that joined late. Whether it is taken.
  learn(running) {
    if (!running || running.name !== this.episode || running.sources.length < this.sources.length) return false;
    this.sources = running.sources;
    this.windows = runs_of(running.labels ?? '').filter(run => run.letter === 'u').map(run => [run.from, run.to]);
    return true;
  }

  show(state) {
    const window = this.next_window(state), steps = this.sources.length;
    draw_strip($('course'), this.sources, this.labels(), {length: Math.max(60, Math.ceil(steps * 1.1 / 60) * 60), window});
    const last = this.windows.at(-1);
    set_text($('preview-text'), last ? `The last take-over made ${span(last)} undesirable.` + (window ? ` One now would make ${span(window)} so, too.` : '')
        : window ? `A take-over now would make ${span(window)} undesirable.` : 'A take-over makes the policy’s last steps before it undesirable.');
  }

  // What the next take-over would make undesirable: the last k policy steps since the last human one, [from, to).
  next_window(state) {
    const steps = this.sources.length;
    if (!state.k || state.episode_state !== 'running' || state.holder !== 'nobody') return null;
    const from = Math.max(this.sources.search(/p*$/), steps - state.k);
    return from < steps ? [from, steps] : null;
  }

  labels() {
    const out = Array.from(this.sources, source => source === 'h' ? 'i' : ' ');
    for (const [from, to] of this.windows)
      for (let at = from; at < Math.min(to, out.length); ++at) out[at] = 'u';
    return out.join('');
  }
}
