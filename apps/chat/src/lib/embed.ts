/** What a page that shows the chat in a frame and the frame say to each other. Both look at what they are told: anybody may post to anybody. */
export type FromFrame = { bulla: 1; type: 'ready' } | { bulla: 1; type: 'unread'; count: number } | { bulla: 1; type: 'close' };
export type FromHost = { bulla: 1; type: 'hello'; identity?: string } | { bulla: 1; type: 'identify'; identity: string };

/** Characters of an identity token, as the engine has it: those with a few claims have 150 to 600. */
const MAX_IDENTITY = 2_048;

function ours(data: unknown): Record<string, unknown> {
  const said = typeof data === 'object' && data !== null ? (data as Record<string, unknown>) : {};
  return said.bulla === 1 ? said : {};
}

export function fromFrame(data: unknown): FromFrame | null {
  const { type, count } = ours(data);
  if (type === 'ready' || type === 'close') return { bulla: 1, type };
  if (type === 'unread' && typeof count === 'number' && Number.isSafeInteger(count) && count >= 0) return { bulla: 1, type, count };
  return null;
}

export function fromHost(data: unknown): FromHost | null {
  const { type, identity } = ours(data);
  if (type !== 'hello' && type !== 'identify') return null;
  const token = type === 'hello' && identity === undefined ? null : identityOf(identity);
  if (token !== null) return { bulla: 1, type, identity: token };
  return type === 'hello' ? { bulla: 1, type } : null;
}

/** An identity token; null, with a sentence for whoever builds the site, for what is none. */
export function identityOf(value: unknown): string | null {
  if (typeof value === 'string' && value !== '' && value.length <= MAX_IDENTITY) return value;
  console.error(`bulla: an identity is a text of at most ${MAX_IDENTITY} characters; this one was not used.`);
  return null;
}
