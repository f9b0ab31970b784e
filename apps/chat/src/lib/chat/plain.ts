/**
 * Text of others, without the characters that make it read otherwise than it is written: overrides of the writing direction turn
 * `exe.png` into `gnp.exe`, and in a name any direction mark would reach into the sentence around it.
 */
const OVERRIDES = /[\u202d\u202e]/g;
const DIRECTIONS = /[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const CONTROLS = /[\u0000-\u001f\u007f-\u009f]+/g;

export function plainText(text: string): string {
  return text.replace(OVERRIDES, '');
}

/** On one line, without any marks. Something to call it by even if nothing is left. */
export function plainName(name: string): string {
  return name.replace(DIRECTIONS, '').replace(CONTROLS, ' ').trim() || '?';
}
