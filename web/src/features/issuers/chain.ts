import { useQuery } from '@tanstack/react-query';

/** What is shown of a certificate of a chain. */
export interface Link {
  subject: string;
  issuer: string;
  serial: string;
  notBefore: Date;
  notAfter: Date;
  pem: string;
}

/** Reads a chain in PEM. The reader of X.509 is loaded when the first chain is, not with the page. */
export function useChain(pem: string | undefined): { chain: Link[] | undefined; unreadable: boolean } {
  const { data, isError } = useQuery({
    queryKey: ['chain', pem],
    queryFn: async () => (await import('./x509')).readChain(pem ?? ''),
    enabled: Boolean(pem),
    staleTime: Number.POSITIVE_INFINITY,
    // What cannot be read stays so; it can still be downloaded.
    retry: false,
  });
  return { chain: data, unreadable: isError };
}
