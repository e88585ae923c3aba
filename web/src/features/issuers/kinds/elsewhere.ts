import type { Kind } from './setting';
import { validityDays } from './setting';

export const stepCA: Kind = {
  type: 'StepCA',
  label: 'step-ca',
  when: 'For a smallstep CA of yours, by a JWK provisioner.',
  elsewhere: true,
  sections: [
    {
      title: 'The CA',
      settings: [
        {
          name: 'url',
          label: 'URL',
          help: 'Of the CA, with its port.',
          input: 'url',
          required: true,
          example: 'https://ca.example.org:9000',
        },
        {
          name: 'root_fingerprint',
          label: 'Fingerprint of its root',
          help: 'By step certificate fingerprint root_ca.crt; without it the server here has to trust the CA already.',
          input: 'text',
        },
        validityDays,
      ],
    },
    {
      title: 'Provisioner',
      settings: [
        { name: 'provisioner', label: 'Name', help: 'Of a provisioner of type JWK.', input: 'text', required: true },
        { name: 'provisioner_password', label: 'Password', help: 'Opens the encrypted key.', input: 'secret' },
        {
          name: 'provisioner_key',
          label: 'Key',
          help: 'A private JWK, or the encrypted one that step writes; without it, what the CA hands out.',
          input: 'secret-text',
        },
      ],
    },
  ],
};

export const vault: Kind = {
  type: 'Vault',
  label: 'Vault or OpenBao',
  when: 'For the PKI secrets engine of HashiCorp Vault or OpenBao.',
  elsewhere: true,
  sections: [
    {
      title: 'The engine',
      settings: [
        {
          name: 'url',
          label: 'URL',
          help: 'Of the server; who changes it has to give the secret anew.',
          input: 'url',
          required: true,
          example: 'https://vault.example.org:8200',
        },
        { name: 'namespace', label: 'Namespace', help: 'If the server has any.', input: 'text' },
        { name: 'mount', label: 'Mount', help: 'Where the PKI secrets engine is.', input: 'text', usual: 'pki' },
        { name: 'role', label: 'Role', help: 'It says which names may be signed.', input: 'text', required: true },
        {
          name: 'tls_ca_pem',
          label: "Trusted root of the server's TLS",
          help: 'Without it, what the system trusts counts.',
          input: 'pem',
        },
        validityDays,
      ],
    },
    {
      title: 'How certctl logs in',
      help: 'Either a token, which you have to renew yourself, or an AppRole.',
      settings: [
        {
          name: 'token',
          label: 'Token',
          help: 'With update on mount/sign/role, and on mount/revoke to revoke.',
          input: 'secret',
        },
        { name: 'role_id', label: 'Role id (AppRole)', help: 'Belongs together with the secret id.', input: 'text' },
        {
          name: 'secret_id',
          label: 'Secret id (AppRole)',
          help: 'It logs in again when its token has run out.',
          input: 'secret',
        },
        {
          name: 'auth_mount',
          label: 'Mount of AppRole',
          help: 'Where the login method is.',
          input: 'text',
          usual: 'approle',
        },
      ],
    },
  ],
};

export const digicert: Kind = {
  type: 'DigiCert',
  label: 'DigiCert',
  when: 'For public certificates that are ordered, and charged, at CertCentral.',
  elsewhere: true,
  sections: [
    {
      title: 'The account',
      settings: [
        {
          name: 'api_key',
          label: 'API key',
          help: 'One that is restricted to orders is enough.',
          input: 'secret',
          required: true,
        },
        {
          name: 'base_url',
          label: 'Services API',
          help: 'European accounts: https://certcentral.digicert.eu/services/v2. Who changes it has to give the key anew.',
          input: 'url',
          usual: 'https://www.digicert.com/services/v2',
        },
        {
          name: 'organization_id',
          label: 'Organization id',
          help: 'Not needed for products that validate domains only.',
          input: 'number',
          min: 1,
        },
        {
          name: 'container_id',
          label: 'Container id',
          help: 'The division that orders belong to.',
          input: 'number',
          min: 1,
        },
      ],
    },
    {
      title: 'What is ordered',
      settings: [
        {
          name: 'product',
          label: 'Product',
          help: 'The name_id of a product that the account has.',
          input: 'text',
          usual: 'ssl_basic',
        },
        {
          name: 'dcv_method',
          label: 'Domains are validated by',
          help: "Left empty, the account's own way.",
          input: 'choice',
          usual: '',
          choices: ['email', 'dns-txt-token', 'dns-cname-token', 'http-token', 'http-token-dynamic'].map((value) => ({
            value,
            label: value,
          })),
        },
        {
          name: 'skip_approval',
          label: 'Skip the approval of orders',
          help: 'If it is off, an administrator there approves each order.',
          input: 'switch',
          usual: 'true',
        },
        {
          name: 'payment_method',
          label: 'Paid by',
          help: 'How orders are charged.',
          input: 'choice',
          usual: 'balance',
          choices: [
            { value: 'balance', label: 'Balance of the account' },
            { value: 'card', label: 'Card' },
            { value: 'profile', label: 'Billing profile' },
          ],
        },
        { name: 'ca_cert_id', label: 'Issuing CA id', help: 'If the product is signed by several.', input: 'text' },
        { name: 'ca_cert_pem', label: 'Root', help: 'If it is given, chains have to lead to it.', input: 'pem' },
        validityDays,
      ],
    },
  ],
};

export const scripts: Kind = {
  type: 'OpenSSL',
  label: 'Scripts',
  when: 'For any other CA: programs of yours on the server sign, revoke and write the revocation list.',
  elsewhere: true,
  sections: [
    {
      title: 'Programs',
      help: 'Each has to lie in the folder that the operator has set with CERTCTL_OPENSSL_SCRIPT_DIR. The path comes first, then its arguments, one a line.',
      settings: [
        {
          name: 'sign_script',
          label: 'Sign',
          help: 'Is given a request, leaves a certificate.',
          input: 'program',
          required: true,
        },
        { name: 'revoke_script', label: 'Revoke', help: 'Is given the certificate that is revoked.', input: 'program' },
        {
          name: 'crl_script',
          label: 'Revocation list',
          help: 'Is given the entries, leaves a signed list.',
          input: 'program',
        },
        {
          name: 'timeout_seconds',
          label: 'Time for each (s)',
          help: 'Then it is ended, with all its children.',
          input: 'number',
          usual: '30',
          min: 1,
          max: 3600,
        },
      ],
    },
    {
      title: 'The CA',
      settings: [
        {
          name: 'ca_cert_pem',
          label: 'CA certificate',
          help: 'What is signed is held against it; without it nothing is.',
          input: 'pem',
        },
        validityDays,
      ],
    },
  ],
};
