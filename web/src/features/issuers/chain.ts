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
export function useChain(pem: string | undefined): Link[] | undefined {
  const { data } = useQuery({
    queryKey: ['chain', pem],
    queryFn: async () => (await import('./x509')).readChain(pem ?? ''),
    enabled: Boolean(pem),
    staleTime: Number.POSITIVE_INFINITY,
    // A chain that cannot be read is the server's to explain; the page goes without.
    retry: false,
  });
  return data;
}
