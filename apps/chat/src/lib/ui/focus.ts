/** Remembers who has the focus; what comes back gives it to them again, unless it went somewhere meanwhile. */
export function returnFocus(): () => void {
  const before = document.activeElement;
  return () => {
    if (document.activeElement === document.body && before instanceof HTMLElement) before.focus({ preventScroll: true });
  };
}
