import { expect, it } from 'vitest';
import { readChain } from './x509';

const pem = `-----BEGIN CERTIFICATE-----
MIIBdzCCAR2gAwIBAgIRAIsqRcKIRZ2yPSprei/ewfIwCgYIKoZIzj0EAwIwGzEZ
MBcGA1UEAxMQQ2VydEN0bCBMb2NhbCBDQTAeFw0yNjExMjgxNzA2MjhaFw0zNjEx
MjUxODA2MjhaMBsxGTAXBgNVBAMTEENlcnRDdGwgTG9jYWwgQ0EwWTATBgcqhkjO
PQIBBggqhkjOPQMBBwNCAATjnwwC6OuHDGR6n/pkAFoa8LhHGTCZS3Mm49bF7jJ1
KuHVPyQTze+TBQ+mRhaLxo9K8cuiv0PU3x6XcH6X7iCSo0IwQDAOBgNVHQ8BAf8E
BAMCAQYwDwYDVR0TAQH/BAUwAwEB/zAdBgNVHQ4EFgQUPLvTqqOHr1X6tWKuLEee
b7tFnw4wCgYIKoZIzj0EAwIDSAAwRQIhANMOj/ptU3FxNxGDmbxvpe9Q2FVm7YV0
Y+uwobIgsqDTAiAhOGK2HKQCJyYYyhznKXmkIhgLjdkzx2VunzDBmx5kvA==
-----END CERTIFICATE-----
`;

it('reads the certificates of a chain in their order, with what is between them left out', () => {
  const chain = readChain(`subject=CN = x\n${pem}\n${pem}`);
  expect(chain).toHaveLength(2);
  expect(chain[0]).toMatchObject({
    subject: 'CN=CertCtl Local CA',
    issuer: 'CN=CertCtl Local CA',
    serial: '8b2a45c288459db23d2a6b7a2fdec1f2',
    notAfter: new Date('2036-11-25T18:06:28Z'),
    pem,
  });
});

it('refuses what is no certificate', () => {
  expect(() => readChain('-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----')).toThrow();
});
