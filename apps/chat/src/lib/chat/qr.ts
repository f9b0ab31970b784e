/** A QR code as one path. */
// uqr: MIT, no dependencies, 4 KB; Nayuki's generator of many years as a module. `qrcode-generator`, the older one, is twice as large and makes HTML too.
import { encode } from 'uqr';

export interface Picture {
  /** Squares of a side, with the quiet zone of four around. */
  size: number;
  /** The dark squares, run by run. */
  path: string;
}

export function picture(text: string): Picture {
  const { size, data } = encode(text, { ecc: 'M', border: 4 });
  let path = '';
  data.forEach((row, y) => {
    for (let x = 0; x < size; x += 1) {
      if (!row[x]) continue;
      const start = x;
      while (row[x + 1]) x += 1;
      path += `M${start} ${y}h${x - start + 1}v1H${start}z`;
    }
  });
  return { size, path };
}
