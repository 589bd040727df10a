// What was recorded: the episodes, and the replay of one of them.

import {$, Cameras, draw_strip, element, label_name, runs_of, set_text, signed_text, source_name} from './drawing.js';

const kSourceNumber = {e: 0, p: 1, h: 2};  // as action_source in the file
const kAnswerMs = 1000;  // a question older than that counts as lost

function success_text(success) { return success === true ? 'success' : success === false ? 'failure' : 'not marked'; }

/// The list of episodes; of one that is clicked the replay.
export class Recordings {
  /// period: of a step when played, ms; ask(episode, step): asks the server for a step, returns whether it could.
  constructor({can_replay, axis_names, period, ask}) {
    this.can_replay = can_replay;
    this.episodes = [];
    this.rows = new Map();  // name -> {item, text}
    this.replay = new Replay({axis_names, period, ask, changed: name => this.mark(name)});
  }

  /// The finished ones, oldest first.
  show(episodes) {
    this.episodes = episodes;
    const longest = Math.max(1, ...episodes.map(episode => episode.steps));
    const seen = new Set();
    let before = null;
    for (const episode of episodes) {  // each goes before the one before it
      seen.add(episode.name);
      const text = JSON.stringify([episode, longest]);
      let row = this.rows.get(episode.name);
      if (!row || row.text !== text) {
        const item = element('li', {}, this.row(episode, longest));
        if (row) row.item.replaceWith(item);
        row = {item, text};
        this.rows.set(episode.name, row);
      }
      if (before ? row.item.nextElementSibling !== before : row.item.nextElementSibling) $('episodes').insertBefore(row.item, before);
      if (!row.item.isConnected) $('episodes').insertBefore(row.item, before);
      before = row.item;
    }
    for (const [name, row] of this.rows)
      if (!seen.has(name)) {
        row.item.remove();
        this.rows.delete(name);
      }
    $('no-episodes').hidden = episodes.length > 0;
    this.mark(this.replay.name);
    if (this.replay.name) this.replay.renew(this.find(this.replay.name));
  }

  /// A step that was asked for: its numbers, and each camera's picture.
  step_arrived(message) { this.replay.step_arrived(message); }
  picture_arrived(header, blob) { this.replay.picture_arrived(header, blob); }

  find(name) { return this.episodes.find(episode => episode.name === name); }

  row(episode, longest) {
    const take_overs = runs_of(episode.sources).filter(run => run.letter === 'h').length;
    const strip = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    strip.setAttribute('class', 'strip');
    strip.setAttribute('role', 'img');
    strip.setAttribute('preserveAspectRatio', 'none');
    draw_strip(strip, episode.sources, episode.labels ?? '', {length: longest});
    const verdict = success_text(episode.success);
    const helped = take_overs === 0 ? 'no take-over' : take_overs === 1 ? '1 take-over' : take_overs + ' take-overs';
    const row = element('button', {type: 'button', 'data-testid': 'episode-row', 'data-episode': episode.name,
        'data-success': episode.success === true ? 1 : episode.success === false ? 0 : ''},
        element('span', {class: 'verdict'}, episode.success === true ? '✓' : episode.success === false ? '✗' : '–'),
        element('span', {class: 'name'}, episode.name), strip,
        element('span', {class: 'facts'},
                element('span', {}, `${verdict}${episode.outcome && episode.outcome !== verdict ? ', ' + episode.outcome : ''}`),
                element('span', {class: 'soft'}, `${episode.steps} ${episode.steps === 1 ? 'step' : 'steps'}, ${helped}`)));
    row.title = episode.instruction ?? '';
    if (this.can_replay) row.onclick = () => this.replay.open(this.find(episode.name));
    return row;
  }

  // The one that is replayed.
  mark(name) {
    for (const row of $('episodes').querySelectorAll('[data-testid=episode-row]')) {
      if (row.dataset.episode === name) row.setAttribute('aria-current', 'true');
      else row.removeAttribute('aria-current');
    }
  }
}

class Replay {
  /// changed(name): of the episode that is shown now; '' for none.
  constructor({axis_names, period, ask, changed}) {
    this.axis_names = axis_names;
    this.period = period;
    this.ask = ask;
    this.changed = changed;
    this.cameras = new Cameras($('replay-cameras'), name => 'replay-camera-' + name);
    this.timer = null;
    this.begin(null);
    $('replay-step').oninput = () => {
      this.stop();
      this.want(Number($('replay-step').value));
    };
    $('replay-strip').onclick = event => {
      const box = $('replay-strip').getBoundingClientRect();
      this.want(Math.max(0, Math.min(this.last, Math.floor((event.clientX - box.left) / box.width * (this.last + 1)))));
    };
    $('replay-play').onclick = () => this.timer === null ? this.play() : this.stop();
    $('replay-close').onclick = () => this.close();
  }

  begin(episode) {
    this.episode = episode;
    this.step = 0;
    this.wanted = null;    // the newest wish, which waits for the answer to the question before
    this.asked_at = null;  // performance.now(), while an answer is awaited
  }

  get name() { return this.episode?.name ?? ''; }
  get last() { return Number($('replay-step').max); }

  open(episode) {
    this.stop();
    this.begin(episode);
    $('replay').hidden = false;
    set_text($('replay-title'), `Replay of ${episode.name}`);
    set_text($('replay-text'), '');
    $('replay-step').max = Math.max(0, episode.steps - 1);
    this.show();
    this.changed(this.name);
    this.want(0);
    $('replay').scrollIntoView({block: 'nearest', behavior: matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth'});
  }

  /// The same episode as it is now; undefined when it is gone.
  renew(episode) {
    if (!episode) return this.close();
    this.episode = episode;
    this.show();
  }

  close() {
    this.stop();
    const row = $('episodes').querySelector('[aria-current]');
    this.episode = null;
    Object.assign($('replay').dataset, {episode: '', step: '', sources: '[]', labels: '[]'});
    $('replay').hidden = true;
    this.changed('');
    row?.focus();
  }

  show() {
    const {name, sources, steps} = this.episode, labels = this.episode.labels ?? '';
    Object.assign($('replay').dataset, {episode: name, sources: JSON.stringify(Array.from(sources, letter => kSourceNumber[letter] ?? -1)),
        labels: JSON.stringify(Array.from(labels, label_name))});
    draw_strip($('replay-strip'), sources, labels, {cursor: this.step});
    set_text($('replay-place'), `${this.step + 1} / ${steps}`);
  }

  get is_waiting() { return this.asked_at !== null && performance.now() - this.asked_at < kAnswerMs; }

  // One question at a time; the newest wish waits.
  want(step) {
    if (this.is_waiting) {
      this.wanted = step;
      return;
    }
    if (this.ask(this.name, step)) this.asked_at = performance.now();
  }

  step_arrived(message) {
    if (message.episode !== this.episode?.name) return;  // of another, asked for before
    this.asked_at = null;
    this.step = message.step;
    $('replay').dataset.step = message.step;
    if (this.wanted === null) $('replay-step').value = message.step;
    this.show();
    $('replay-text').replaceChildren(element('b', {}, `${source_name(message.source)}, ${label_name(message.label)}`),
        ...(message.action ?? []).map((value, index) => element('span', {}, `${this.axis_names[index]} ${signed_text(value)}`)));
    if (this.wanted === null) return;
    const wanted = this.wanted;
    this.wanted = null;
    this.want(wanted);
  }

  picture_arrived(header, blob) {
    if (header.episode === this.episode?.name) this.cameras.show(header, blob);
  }

  play() {
    if (this.step >= this.last) this.want(0);
    set_text($('replay-play'), 'Stop');
    this.timer = setInterval(() => {
      if (this.step >= this.last) return this.stop();
      if (!this.is_waiting) this.want(this.step + 1);
    }, this.period);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    set_text($('replay-play'), 'Play');
  }
}
