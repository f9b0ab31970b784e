/**
 * The page's one Trusted Types policy: scripts come from this origin's own files and from nowhere else. There is none for HTML, because
 * the page never makes any from a string.
 */
interface Policy {
  createScriptURL(url: string): unknown;
}
interface Factory {
  createPolicy(name: string, rules: { createScriptURL(url: string): string }): Policy;
}

function ownScript(url: string): string {
  const resolved = new URL(url, location.origin);
  if (resolved.origin !== location.origin) throw new TypeError('a script of another origin');
  return resolved.href;
}

const factory = (globalThis as { trustedTypes?: Factory }).trustedTypes;
const policy = factory?.createPolicy('bulla', { createScriptURL: ownScript });

export function scriptUrl(url: string): unknown {
  return policy ? policy.createScriptURL(url) : ownScript(url);
}
