/**
 * Where to go after signing in: the place that was asked for, if it is one of this dashboard. An address of another host
 * could be slipped into a link, so only plain paths count.
 */
export function destination(to: string | undefined): string {
  if (!to?.startsWith('/') || to.startsWith('//') || to.includes('\\') || to.startsWith('/sign-in')) return '/';
  return to;
}

/** A key as it was meant: pasted ones come with line ends, and keys hold no spaces. None if it can be none. */
export function tidyKey(typed: string): string | undefined {
  const key = typed.trim();
  return /^[\x21-\x7e]+$/.test(key) ? key : undefined;
}
