import type { Section, Setting } from './setting';

/** A setting of one provider of DNS-01; the server refuses it while another is chosen. */
function of(provider: string, s: Omit<Setting, 'when'>): Setting {
  return { ...s, when: { challenge_type: ['dns-01'], dns_provider: [provider] } };
}

function always(s: Omit<Setting, 'when'>): Setting {
  return { ...s, when: { challenge_type: ['dns-01'] } };
}

const providers: Setting[] = [
  of('rfc2136', {
    name: 'dns_rfc2136_nameserver',
    label: 'Name server',
    help: 'The primary of the zones, host or host:port.',
    input: 'text',
    required: true,
  }),
  of('rfc2136', {
    name: 'dns_rfc2136_tsig_key',
    label: 'TSIG key name',
    help: 'As the server knows it; for BIND, tsig-keygen makes one.',
    input: 'text',
  }),
  of('rfc2136', {
    name: 'dns_rfc2136_tsig_secret',
    label: 'TSIG secret',
    help: 'The key itself, in base64.',
    input: 'secret',
  }),
  of('rfc2136', {
    name: 'dns_rfc2136_tsig_algorithm',
    label: 'TSIG algorithm',
    help: 'Both sides have to name the same.',
    input: 'choice',
    usual: 'hmac-sha256',
    choices: ['hmac-sha256', 'hmac-sha512', 'hmac-sha384', 'hmac-sha224', 'hmac-sha1'].map((value) => ({
      value,
      label: value,
    })),
  }),
  of('route53', {
    name: 'dns_route53_access_key_id',
    label: 'Access key id',
    help: 'Of a user that may change TXT records of the zones.',
    input: 'text',
    required: true,
  }),
  of('route53', {
    name: 'dns_route53_secret_access_key',
    label: 'Secret access key',
    help: 'Belongs to the access key id.',
    input: 'secret',
    required: true,
  }),
  of('route53', {
    name: 'dns_route53_session_token',
    label: 'Session token',
    help: 'Only with temporary credentials.',
    input: 'secret',
  }),
  of('route53', {
    name: 'dns_route53_region',
    label: 'Region',
    help: 'Another one only in China and GovCloud.',
    input: 'text',
    usual: 'us-east-1',
  }),
  of('route53', {
    name: 'dns_route53_hosted_zone_id',
    label: 'Hosted zone id',
    help: 'Without it the zone is found by its name.',
    input: 'text',
  }),
  of('cloudflare', {
    name: 'dns_cloudflare_api_token',
    label: 'API token',
    help: 'With Zone / Zone / Read and Zone / DNS / Edit, limited to the zones.',
    input: 'secret',
    required: true,
  }),
  of('azuredns', {
    name: 'dns_azuredns_tenant_id',
    label: 'Tenant id',
    help: 'Of the directory that the service principal is in.',
    input: 'text',
    required: true,
  }),
  of('azuredns', {
    name: 'dns_azuredns_client_id',
    label: 'Client id',
    help: 'Of a service principal with the role DNS Zone Contributor on the zones.',
    input: 'text',
    required: true,
  }),
  of('azuredns', {
    name: 'dns_azuredns_client_secret',
    label: 'Client secret',
    help: 'Of the service principal.',
    input: 'secret',
    required: true,
  }),
  of('azuredns', {
    name: 'dns_azuredns_subscription_id',
    label: 'Subscription id',
    help: 'That the zones belong to.',
    input: 'text',
    required: true,
  }),
  of('azuredns', {
    name: 'dns_azuredns_resource_group',
    label: 'Resource group',
    help: 'That the zones are in.',
    input: 'text',
    required: true,
  }),
  of('azuredns', {
    name: 'dns_azuredns_cloud',
    label: 'Cloud',
    help: 'Which of the Azure clouds hosts the zones.',
    input: 'choice',
    usual: 'public',
    choices: [
      { value: 'public', label: 'Public' },
      { value: 'usgovernment', label: 'US Government' },
      { value: 'china', label: 'China' },
    ],
  }),
  of('gcloud', {
    name: 'dns_gcloud_service_account_key',
    label: 'Service account key',
    help: 'The JSON key file, as text.',
    input: 'secret-text',
    required: true,
  }),
  of('gcloud', {
    name: 'dns_gcloud_project',
    label: 'Project',
    help: 'If the zones are in another project than the account.',
    input: 'text',
  }),
  of('acmedns', {
    name: 'dns_acmedns_accounts',
    label: 'Accounts',
    help: 'The JSON that acme-dns clients store, one account for each name.',
    input: 'secret-text',
    required: true,
  }),
  of('acmedns', {
    name: 'dns_acmedns_server',
    label: 'Server',
    help: 'For accounts that do not name theirs.',
    input: 'url',
  }),
];

export const dns01: Section = {
  title: 'DNS-01',
  help: 'Who sets the TXT records that prove names, and how long they are waited for.',
  settings: [
    always({
      name: 'dns_provider',
      label: 'Who hosts the zones',
      help: 'Scripts are programs that the operator has set on the server.',
      input: 'choice',
      usual: 'scripts',
      choices: [
        { value: 'scripts', label: "Scripts of the operator's" },
        { value: 'rfc2136', label: 'DNS updates (BIND, Knot, PowerDNS, Windows)' },
        { value: 'route53', label: 'Amazon Route 53' },
        { value: 'cloudflare', label: 'Cloudflare' },
        { value: 'azuredns', label: 'Azure DNS' },
        { value: 'gcloud', label: 'Google Cloud DNS' },
        { value: 'acmedns', label: 'acme-dns' },
      ],
    }),
    ...providers,
    always({
      name: 'dns_zones',
      label: 'Zones that may be written to',
      help: 'A name outside of them is refused, and the test tries each of them.',
      input: 'lines',
    }),
    always({
      name: 'dns_propagation_check',
      label: 'Records are looked for at',
      help: 'Resolvers are for networks that reach no other name servers.',
      input: 'choice',
      usual: '',
      choices: [
        { value: 'authoritative', label: "The zone's name servers" },
        { value: 'resolvers', label: 'The resolvers' },
      ],
    }),
    always({
      name: 'dns_propagation_wait_seconds',
      label: 'Wait before looking (s)',
      help: 'Nobody looks for the records before that.',
      input: 'number',
      min: 0,
      max: 240,
    }),
    always({
      name: 'dns_propagation_timeout_seconds',
      label: 'Look for at most (s)',
      help: 'How long they may take to be seen; 0 is not to look.',
      input: 'number',
      usual: '120',
      min: 0,
      max: 240,
    }),
  ],
};
