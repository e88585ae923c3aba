/** Reads what stands behind the `?` of an address, which anybody may have typed. */
export function text(v: unknown): string | undefined {
  return typeof v === 'string' && v !== '' ? v : undefined;
}

export interface ListSearch {
  /** Where the page begins; left out, at the beginning. */
  cursor?: string;
  /** Rows a page, from 1 to 500; left out, 50. */
  size?: number;
}

export function listSearch(s: Record<string, unknown>): ListSearch {
  const size = Number(s.size);
  return { cursor: text(s.cursor), size: Number.isInteger(size) && size >= 1 && size <= 500 ? size : undefined };
}
