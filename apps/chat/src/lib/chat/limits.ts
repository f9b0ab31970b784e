/** Characters of a text (Unicode code points), as the engine counts them. */
export const MAX_TEXT = 4096;
/** Characters of a customer's name. */
export const MAX_NAME = 64;
/** Characters of a place's name or address: of the shortest writing, what the engine takes. */
export const MAX_PLACE = 250;
/** Characters that somebody may type for a code: 28 of them count. */
export const MAX_CODE = 120;
/** From here on the composer says how much is left. */
const NEAR = 300;

export function textLength(text: string): number {
  let length = 0;
  for (const _ of text) length += 1;
  return length;
}

/** What is left, once it is little; below zero if it is too long. Null while there is plenty. */
export function leftOf(text: string): number | null {
  // Code points are at most code units: no need to count a short text.
  if (text.length < MAX_TEXT - NEAR) return null;
  const left = MAX_TEXT - textLength(text);
  return left <= NEAR ? left : null;
}
