/**
 * The ticket of a transfer that came in this page's address. It is the first thing that the page looks at: from here on it stands neither in the address nor
 * in the tab's history, and nothing else ever sees the address with it. The browser's own list of visited pages has it: no page can take it from there, but
 * nobody can use it a second time.
 */
import { MAX_CODE } from './chat/limits';
import { takeTicket } from './carry';

function take(): string | null {
  const { pathname, search, hash } = location;
  const taken = takeTicket(hash);
  if (taken.hash === hash) return null;
  history.replaceState(history.state, '', pathname + search + taken.hash);
  // A page around this one chose the address, and could lay itself over the question.
  if (window.parent !== window) return null;
  return taken.ticket?.slice(0, MAX_CODE) ?? null;
}

export const carried = take();
