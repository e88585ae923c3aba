import { dns01 } from './dns';
import type { Kind } from './setting';

export const acme: Kind = {
  type: 'ACME',
  label: 'ACME',
  when: "For public names: Let's Encrypt and other public CAs, or a CA of yours that speaks ACME.",
  elsewhere: true,
  sections: [
    {
      title: 'The CA',
      help: 'To set one up is to agree to its terms.',
      settings: [
        {
          name: 'directory_url',
          label: 'Directory URL',
          help: "Where the CA's ACME service begins; it stays for the life of the issuer.",
          input: 'url',
          required: true,
          example: 'https://acme-v02.api.letsencrypt.org/directory',
          once: true,
        },
        { name: 'email', label: 'Contact', help: 'A mail address that the CA is told.', input: 'text' },
        {
          name: 'profile',
          label: 'Certificate profile',
          help: 'One that the CA offers, such as shortlived.',
          input: 'text',
        },
        {
          name: 'preferred_chain',
          label: 'Preferred root',
          help: 'Common name of the root that chains are to lead to, if there are several.',
          input: 'text',
        },
        {
          name: 'ca_certificate_pem',
          label: 'Trusted root of the directory',
          help: "What the directory's TLS certificate leads to, for a CA of your own.",
          input: 'pem',
        },
      ],
    },
    {
      title: 'Account binding',
      help: 'Only if the CA asks for an external account.',
      settings: [
        { name: 'eab_kid', label: 'Key id (EAB)', help: 'As the CA has given it to you.', input: 'text' },
        { name: 'eab_hmac_key', label: 'MAC key (EAB)', help: 'In base64url, belongs to the key id.', input: 'secret' },
      ],
    },
    {
      title: 'Proof of names',
      settings: [
        {
          name: 'challenge_type',
          label: 'Names are proven by',
          help: 'Wildcards need DNS-01, addresses HTTP-01.',
          input: 'choice',
          usual: 'http-01',
          choices: [
            { value: 'http-01', label: 'HTTP-01: an answer on port 80' },
            { value: 'dns-01', label: 'DNS-01: a TXT record' },
          ],
        },
        {
          name: 'http01_via',
          label: 'Answered by',
          help: 'Port 80 of each name has to lead to whoever answers.',
          input: 'choice',
          usual: 'listener',
          choices: [
            { value: 'listener', label: 'The issuer service' },
            { value: 'agent', label: "The agent of the certificate's first target" },
          ],
          when: { challenge_type: ['http-01'] },
        },
        {
          name: 'preflight',
          label: 'Before an order',
          help: 'CAA records and zones are looked at, so that an order that must fail is not placed.',
          input: 'choice',
          usual: 'block',
          choices: [
            { value: 'block', label: 'Look, and place no order that must fail' },
            { value: 'warn', label: 'Look, and place it anyway' },
            { value: 'off', label: 'Do not look' },
          ],
        },
        {
          name: 'dns_resolvers',
          label: 'Resolvers',
          help: "Up to eight, each a host or host:port, instead of the system's.",
          input: 'lines',
        },
      ],
    },
    dns01,
  ],
};
