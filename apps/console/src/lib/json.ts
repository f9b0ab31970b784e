/** JSON for reading: indented, in pieces that can be coloured. Text of others loses what would make it read otherwise than it is written. */
import { plainText } from '../../../chat/src/lib/chat/plain';

export interface Piece {
  kind: 'plain' | 'key' | 'string' | 'other';
  text: string;
}

/** What is no JSON is one piece, as it is. */
export function pieces(text: string): Piece[] {
  let pretty: string;
  try {
    pretty = plainText(JSON.stringify(JSON.parse(text), null, 2));
  } catch {
    return [{ kind: 'plain', text: plainText(text) }];
  }
  const found: Piece[] = [];
  // A string, with the colon that makes it a key; a number or word; anything else.
  for (const [, string, colon, other, plain] of pretty.matchAll(/("(?:[^"\\]|\\.)*")(\s*:)?|([-\w.+]+)|([^"\w-]+|.)/g)) {
    if (string !== undefined) {
      found.push({ kind: colon === undefined ? 'string' : 'key', text: string });
      if (colon !== undefined) found.push({ kind: 'plain', text: colon });
    } else {
      found.push(other !== undefined ? { kind: 'other', text: other } : { kind: 'plain', text: plain ?? '' });
    }
  }
  return found;
}
