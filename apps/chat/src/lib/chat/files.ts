/** What is done with a file before it is handed to the engine: a preview, and for a picture a copy without what the camera wrote into it. */
import type { Preview } from '../engine/types';

/** Bytes of a file; the engine refuses more. */
export const MAX_FILE = 100 * 1024 * 1024;
/** Characters of what is said under a file. */
export const MAX_CAPTION = 1024;
const MAX_PREVIEW = 24 * 1024;
const PREVIEW_SIDE = 320;
/** The longer side of a picture that is sent as a picture. */
const PICTURE_SIDE = 2048;

export interface Prepared {
  file: Blob;
  name: string;
  mediaType: string;
  preview: Preview | null;
}

/** Whether a browser may be able to show it; only then a preview is tried. */
export const looksLikePicture = (file: Blob): boolean => file.type.startsWith('image/') && file.type !== 'image/svg+xml';

async function draw(bitmap: ImageBitmap, side: number, type: string, quality: number): Promise<Blob | null> {
  const scale = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
  const canvas = new OffscreenCanvas(Math.max(1, Math.round(bitmap.width * scale)), Math.max(1, Math.round(bitmap.height * scale)));
  const context = canvas.getContext('2d');
  if (!context) return null;
  if (type === 'image/jpeg') {
    // JPEG has no transparency: on white, as paper is.
    context.fillStyle = '#fff';
    context.fillRect(0, 0, canvas.width, canvas.height);
  }
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.convertToBlob({ type, quality });
}

async function preview(bitmap: ImageBitmap): Promise<Preview | null> {
  for (const [side, quality] of [[PREVIEW_SIDE, 0.7], [PREVIEW_SIDE, 0.4], [PREVIEW_SIDE / 2, 0.4]] as const) {
    const blob = await draw(bitmap, side, 'image/webp', quality);
    // A browser that cannot make WebP makes PNG.
    if (blob && blob.size <= MAX_PREVIEW && (blob.type === 'image/webp' || blob.type === 'image/png')) {
      return { mediaType: blob.type, bytes: new Uint8Array(await blob.arrayBuffer()) };
    }
  }
  return null;
}

/** The file as it is sent. A picture is drawn anew, unless the original is wanted: where and with what it was taken stays behind. */
export async function prepare(file: File, original: boolean): Promise<Prepared> {
  const as = { file, name: file.name, mediaType: file.type || 'application/octet-stream' };
  if (!looksLikePicture(file)) return { ...as, preview: null };
  // What this browser cannot decode goes as the file that it is, and is not called a picture: its type was its name's word.
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) return { ...as, mediaType: 'application/octet-stream', preview: null };
  try {
    const small = await preview(bitmap);
    if (original || file.type === 'image/gif') return { ...as, preview: small };
    const drawn = await draw(bitmap, PICTURE_SIDE, 'image/jpeg', 0.85);
    if (!drawn) return { ...as, preview: small };
    return { file: drawn, name: file.name.replace(/\.[^.]*$/, '') + '.jpg', mediaType: 'image/jpeg', preview: small };
  } finally {
    bitmap.close();
  }
}

/** Of a browser's own choosing: nothing is loaded by itself until somebody says so. */
export const AUTOLOAD = [0, 2_000_000, 10_000_000] as const;

/** Gives a file to the browser, to be saved. It is never opened here: a page made by somebody else would be one of this origin. */
export function save(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob);
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  // After the browser has taken it.
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
