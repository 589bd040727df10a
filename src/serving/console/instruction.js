// The instruction, which a person may change between episodes.

import {$, set_text} from './drawing.js';

export class Instruction {
  /// `can_change`: whether it ever can be; `set(text)`: the person wants this one.
  constructor(can_change, set) {
    this.can_change = can_change;
    this.set = set;
    this.field = $('instruction');
    this.text = undefined;   // as the server says; undefined without a connection
    this.editable = false;
    this.edited = false;
    this.field.oninput = () => {
      this.edited = this.field.value !== this.text;
      this.render();
    };
    this.field.onkeydown = event => this.pressed(event);
    $('instruction-form').onsubmit = event => {
      event.preventDefault();
      this.submit();
    };
  }

  show(text, editable) {
    this.text = text;
    this.editable = editable;
    this.render();
  }

  pressed(event) {
    if (event.key === 'Escape') {
      this.edited = false;
      this.render();
      this.field.blur();
    }
    if (event.key === 'Enter' && !event.isComposing) {
      event.preventDefault();
      $('instruction-form').requestSubmit();
    }
  }

  submit() {
    if (!this.edited || !this.editable) return;
    this.edited = false;
    this.set(this.field.value);
    this.show(this.field.value, this.editable);
  }

  render() {
    const {field, text} = this;
    field.readOnly = !this.editable;
    if (!this.editable) this.edited = false;
    if (text !== undefined && !this.edited && field.dataset.value !== text) {
      field.dataset.value = text;
      field.textContent = text;
      field.value = text;
    } else if (text !== undefined && !this.edited && field.value !== text) field.value = text;
    $('instruction-send').setAttribute('aria-disabled', String(!this.edited));
    set_text($('instruction-hint'), !this.can_change ? 'Given by the task.' : this.edited ? 'Enter sets it, Escape leaves it as it was.' :
        this.editable ? 'For the next episode; empty: as the robot says.' : 'Can be changed between episodes.');
  }
}
