import { Field } from '@/ui/field';
import { FileText, Select, TextArea, TextInput } from '@/ui/input';
import { Secret } from '@/ui/secret';
import { Switch } from '@/ui/switch';
import { kept } from './form';
import { IssuerPicker } from './issuer-picker';
import type { Setting } from './kinds/setting';

interface Props {
  setting: Setting;
  value: string;
  fault: string | undefined;
  onChange: (value: string) => void;
}

const wide = new Set(['pem', 'secret-text', 'lines', 'program']);

/** The input for a setting. What counts if it is left empty stands in it, pale. */
export function SettingField({ setting: s, value, fault, onChange }: Props) {
  if (s.input === 'switch') {
    return (
      <div className="self-center">
        <Switch
          label={s.label}
          help={s.help}
          on={(value || s.usual) === 'true'}
          onChange={(on) => onChange(String(on))}
        />
      </div>
    );
  }
  return (
    <Field
      label={s.label}
      help={s.help}
      fault={fault}
      required={s.required}
      wide={wide.has(s.input) && s.input !== 'lines'}
    >
      {(wiring) => {
        switch (s.input) {
          case 'choice':
            return (
              <Select {...wiring} value={value || s.usual || ''} onChange={(e) => onChange(e.target.value)}>
                {s.usual === '' && <option value="">As usual</option>}
                {s.choices?.map((c) => (
                  <option key={c.value} value={c.value}>
                    {c.label}
                  </option>
                ))}
              </Select>
            );
          case 'issuer':
            return <IssuerPicker wiring={wiring} value={value} onChange={onChange} />;
          case 'pem':
            return (
              <FileText
                {...wiring}
                value={value}
                onText={onChange}
                what={s.label}
                placeholder="-----BEGIN CERTIFICATE-----"
              />
            );
          case 'lines':
          case 'program':
            return (
              <TextArea
                {...wiring}
                value={value}
                onChange={(e) => onChange(e.target.value)}
                placeholder={s.usual ?? s.example}
                rows={2}
              />
            );
          case 'secret':
          case 'secret-text':
            return (
              <Secret
                wiring={wiring}
                value={value}
                kept={kept}
                onText={onChange}
                removable={!s.required}
                long={s.input === 'secret-text'}
                what={s.label}
              />
            );
          default:
            return (
              <TextInput
                {...wiring}
                type={s.input === 'url' ? 'url' : 'text'}
                inputMode={s.input === 'number' ? 'numeric' : undefined}
                value={value}
                onChange={(e) => onChange(e.target.value)}
                placeholder={s.usual ?? s.example}
              />
            );
        }
      }}
    </Field>
  );
}
