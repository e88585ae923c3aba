import { useQuery } from '@tanstack/react-query';
import type { Wiring } from '@/ui/field';
import { Select } from '@/ui/input';
import { issuersQuery } from './calls';

/** Chooses among the Local CAs, which alone can sign another one. */
export function IssuerPicker({
  wiring,
  value,
  onChange,
}: {
  wiring: Wiring;
  value: string;
  onChange: (id: string) => void;
}) {
  const { data } = useQuery(issuersQuery({ size: 500 }));
  const candidates = (data?.data ?? []).filter((i) => i.type === 'GenericCA' && i.ca_chain_pem);
  return (
    <Select {...wiring} value={value} onChange={(e) => onChange(e.target.value)}>
      <option value="">Choose an issuer</option>
      {/* One that is typed, or beyond the first 500, stays as it is. */}
      {value && !candidates.some((i) => i.id === value) && <option value={value}>{value}</option>}
      {candidates.map((i) => (
        <option key={i.id} value={i.id} disabled={!i.enabled}>
          {i.name} ({i.id}){i.enabled ? '' : ', disabled'}
        </option>
      ))}
    </Select>
  );
}
