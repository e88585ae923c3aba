import { AsnConvert } from '@peculiar/asn1-schema';
import { Certificate, type Name } from '@peculiar/asn1-x509';
import type { Link } from './chain';

const blocks = /-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----/g;

/** Reads the certificates of a text in PEM, in their order. It throws if one cannot be read. */
export function readChain(pem: string): Link[] {
  return [...pem.matchAll(blocks)].map(([block, body = '']) => {
    const der = Uint8Array.from(atob(body.replace(/\s/g, '')), (c) => c.charCodeAt(0));
    const { subject, issuer, validity, serialNumber } = AsnConvert.parse(der, Certificate).tbsCertificate;
    return {
      subject: named(subject),
      issuer: named(issuer),
      serial: hex(new Uint8Array(serialNumber)),
      notBefore: validity.notBefore.getTime(),
      notAfter: validity.notAfter.getTime(),
      pem: `${block}\n`,
    };
  });
}

/** Short names of attributes (RFC 4514 section 3). */
const attributes: Record<string, string> = {
  '2.5.4.3': 'CN',
  '2.5.4.6': 'C',
  '2.5.4.7': 'L',
  '2.5.4.8': 'ST',
  '2.5.4.9': 'STREET',
  '2.5.4.10': 'O',
  '2.5.4.11': 'OU',
  '0.9.2342.19200300.100.1.25': 'DC',
};

/** A name as a certificate's holder reads it: most specific first, as the server writes it. */
function named(name: Name): string {
  return [...name]
    .reverse()
    .map((rdn) => [...rdn].map((a) => `${attributes[a.type] ?? a.type}=${a.value.toString()}`).join('+'))
    .join(', ');
}

function hex(bytes: Uint8Array): string {
  return [...bytes]
    .map((b) => b.toString(16).padStart(2, '0'))
    .join('')
    .replace(/^0+(?=.)/, '');
}
