// What keys and the numbers of an action are called, for the person.

import {element, set_text} from './drawing.js';

const kKeyNames = {Space: 'Space', Enter: 'Enter', Escape: 'Esc', ArrowUp: '↑', ArrowDown: '↓', ArrowLeft: '←', ArrowRight: '→', Minus: '-', Equal: '=',
  BracketLeft: '[', BracketRight: ']', Comma: ',', Period: '.', Slash: '/', Semicolon: ';', Backspace: '⌫', ShiftLeft: 'Shift'};

export class Names {
  constructor(contract) {
    this.axes = contract.action_names ?? Array.from({length: contract.action_size}, (_, index) => String(index));
    this.directions = contract.directions ?? {};  // '+0' -> 'away': what one sees in the picture
    this.keys = contract.keys;
    this.layout = null;  // this keyboard's letters, where the browser tells
  }

  key(code) {
    return kKeyNames[code] ?? (this.layout?.get(code)?.toUpperCase() || code.replace(/^(Key|Digit)/, '').replace(/^Numpad/, 'Num '));
  }

  key_mark(code) { return element('kbd', {'data-code': code}, this.key(code)); }

  /// Calls `named()` now, and again once the keyboard's layout is known; the marks made so far follow by themselves.
  follow_layout(named) {
    navigator.keyboard?.getLayoutMap?.().then(map => {
      this.layout = map;
      for (const mark of document.querySelectorAll('kbd[data-code]')) set_text(mark, this.key(mark.dataset.code));
      named();
    }, () => {});
    named();
  }

  /// Where an axis leads: as one sees it, where that is known, and in the robot's numbers; and its key's code, if any.
  way(index, sign) {
    const signed = (sign > 0 ? '+' : '-') + index;
    return {seen: this.directions[signed], axis: this.axes[index], sign: sign > 0 ? '+' : '−', code: this.keys[signed]};
  }

  /// Both ways of an axis {index, sign}, in words.
  ways(axis) {
    const [less, more] = [-axis.sign, axis.sign].map(sign => this.way(axis.index, sign));
    return less.seen ? `${less.seen} and ${more.seen}` : this.axes[axis.index];
  }
}
