import type { Kind, Setting } from './setting';
import { validityDays } from './setting';

const made = ['self-signed', 'intermediate', 'external'];
const constrained = ['self-signed', 'intermediate'];

function names(name: string, label: string, help: string): Setting {
  return { name, label, help, input: 'lines', once: true, when: { mode: constrained } };
}

export const local: Kind = {
  type: 'GenericCA',
  label: 'Local CA',
  when: 'For names inside your organisation: certctl keeps the key and signs at once, with no other server.',
  elsewhere: false,
  sections: [
    {
      title: 'The CA and its certificate',
      settings: [
        {
          name: 'mode',
          label: 'Its certificate is',
          help: 'A root is trusted by itself; any other is trusted through the CA that signs it.',
          input: 'choice',
          usual: 'self-signed',
          once: true,
          choices: [
            { value: 'self-signed', label: 'Self-signed: a new root' },
            { value: 'intermediate', label: 'Signed by another issuer here' },
            { value: 'external', label: 'Signed elsewhere, from a request' },
            { value: 'sub-ca', label: 'One that I have, with its key' },
          ],
        },
        {
          name: 'parent_issuer_id',
          label: 'Signed by',
          help: 'The Local CA above this one; it has to be enabled.',
          input: 'issuer',
          required: true,
          once: true,
          when: { mode: ['intermediate'] },
        },
        {
          name: 'common_name',
          label: 'Common name of the CA',
          help: 'What relying parties see as the issuer of their certificates.',
          input: 'text',
          usual: 'the name of the issuer',
          once: true,
          when: { mode: made },
        },
        {
          name: 'ca_validity_days',
          label: 'Validity of the CA (days)',
          help: 'How long the CA certificate itself holds, and never beyond the CA above it.',
          input: 'number',
          usual: '3650',
          once: true,
          min: 1,
          max: 36500,
          when: { mode: constrained },
        },
        {
          name: 'ca_cert_pem',
          label: 'CA certificate',
          help: 'The issuing CA first, then those above it; the root may be left out.',
          input: 'pem',
          required: true,
          once: true,
          when: { mode: ['sub-ca'] },
        },
      ],
    },
    {
      title: 'Key',
      settings: [
        {
          name: 'key_store',
          label: 'Where the key is kept',
          help: 'Sealed in the database, or in a PKCS#11 token (HSM) that it cannot leave.',
          input: 'choice',
          usual: 'sealed',
          once: true,
          choices: [
            { value: 'sealed', label: 'Sealed, in the database' },
            { value: 'pkcs11', label: 'In an HSM (PKCS#11)' },
          ],
        },
        {
          name: 'key_label',
          label: 'Label in the token',
          help: 'A key of this label is used if it is there, and made otherwise.',
          input: 'text',
          usual: 'the id of the issuer',
          once: true,
          when: { key_store: ['pkcs11'] },
        },
        {
          name: 'key_algorithm',
          label: 'Algorithm',
          help: 'A token makes ECDSA and RSA keys only.',
          input: 'choice',
          usual: 'ECDSA-P256',
          once: true,
          choices: ['ECDSA-P256', 'ECDSA-P384', 'RSA-2048', 'RSA-3072', 'RSA-4096', 'Ed25519'].map((value) => ({
            value,
            label: value,
          })),
          when: { mode: made },
        },
        {
          name: 'ca_key_pem',
          label: 'Private key of the CA',
          help: 'PKCS #8, PKCS #1 or SEC 1. It is sealed, and never shown again.',
          input: 'secret-text',
          required: true,
          once: true,
          when: { mode: ['sub-ca'], key_store: ['sealed'] },
        },
        {
          name: 'ca_key_password',
          label: 'Password of the key',
          help: 'Only if the key is encrypted; it is not kept.',
          input: 'secret',
          once: true,
          when: { mode: ['sub-ca'], key_store: ['sealed'] },
        },
      ],
    },
    {
      title: 'What it may issue',
      settings: [
        { ...validityDays, usual: '90', help: 'No certificate by this issuer is valid for longer.' },
        {
          name: 'max_path_len',
          label: 'CAs that may stand below it',
          help: 'Left empty: any number below a root, none below another.',
          input: 'number',
          once: true,
          min: 0,
          when: { mode: constrained },
        },
        names(
          'permitted_dns_domains',
          'Only these domains',
          'corp.example is itself and what is below it, .corp.example only what is below.',
        ),
        names('excluded_dns_domains', 'Never these domains', 'Counts before what is permitted.'),
        names(
          'permitted_ip_ranges',
          'Only these address ranges',
          'Such as 10.0.0.0/8. If it is empty, addresses are free.',
        ),
        names(
          'excluded_ip_ranges',
          'Never these address ranges',
          'Exclude 0.0.0.0/0 and ::/0 to have no addresses at all.',
        ),
      ],
    },
  ],
};
