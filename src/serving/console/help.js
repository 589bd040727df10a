// Keys and gamepad, told: on the buttons and in the help.

import {gamepad_names} from './hands.js';
import {$, element} from './drawing.js';

const kSaid = {take_over: 'Take over', hand_back: 'Hand back', pause: 'Pause, resume', success: 'Success', failure: 'Failure', reset: 'Reset',
  gripper: 'Open or close the gripper', slower: 'Slower', faster: 'Faster'};
const kSticks = [['left stick, left and right', 'left stick, up and down', 'triggers'], ['right stick, left and right', 'right stick, up and down', 'shoulders']];

/// Once, at the start. keys: command -> code; groups: the controls for a hand (groups_of).
export function tell_keys(keys, groups, names) {
  const buttons = document.querySelectorAll('[data-does]');
  for (const button of buttons) mark_button(button, keys[button.dataset.does], names);
  $('help-rows').append(...command_rows(keys, names), ...groups.flatMap((group, i) => axis_rows(group, kSticks[i], names)));
  names.follow_layout(() => {
    for (const button of buttons) {
      const code = keys[button.dataset.does];
      if (code) button.setAttribute('aria-keyshortcuts', names.key(code));
    }
  });
}

// Its word becomes an element of its own, so that it can change beside the key.
function mark_button(button, code, names) {
  const word = element('span', {class: 'word'}, button.lastChild.textContent);
  button.lastChild.replaceWith(word);
  if (code) button.append(names.key_mark(code));
}

function row(what, codes, gamepad, names) {
  const key = element('td', {});
  for (const code of codes) if (code) key.append(names.key_mark(code), ' ');
  return element('tr', {}, element('th', {scope: 'row'}, what), key, element('td', {}, gamepad ?? ''));
}

function command_rows(keys, names) {
  return Object.entries(kSaid).filter(([what]) => keys[what] || gamepad_names[what])
      .map(([what, said]) => row(said, [keys[what]], gamepad_names[what], names));
}

function axis_rows(group, sticks, names) {
  const axes = [group.pad?.right, group.pad?.up, group.lever].map((axis, at) => ({...axis, at})).filter(axis => axis.index !== undefined);
  return axes.sort((a, b) => a.index - b.index).map(({index, at}) => {
    const less = names.way(index, -1), more = names.way(index, 1), numbers = `${more.axis} − and +`;
    return row(more.seen ? `${names.ways({index, sign: 1})} (${numbers})` : numbers, [less.code, more.code], sticks?.[at], names);
  });
}
