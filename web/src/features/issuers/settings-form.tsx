import { Field } from '@/ui/field';
import { TextInput } from '@/ui/input';
import { type Faults, isShown, type Values } from './form';
import type { Kind, Setting } from './kinds/setting';
import { limits } from './limits';
import { SettingField } from './setting-field';

interface Props {
  kind: Kind;
  values: Values;
  faults: Faults;
  onChange: (name: string, value: string) => void;
  /** It is an issuer that exists: what makes its CA what it is is not asked for. */
  exists?: boolean;
}

/** The settings of a type of issuer, those that matter now. */
export function SettingsForm({ kind, values, faults, onChange, exists }: Props) {
  const asked = (s: Setting) => !(exists && s.once) && isShown(kind, s, values);
  return kind.sections.map((section) => {
    const settings = section.settings.filter(asked);
    if (settings.length === 0) return null;
    return (
      <Group key={section.title} title={section.title} help={section.help}>
        {settings.map((s) => (
          <SettingField
            key={s.name}
            setting={s}
            value={values[s.name] ?? ''}
            fault={faults[`config.${s.name}`]}
            onChange={(value) => onChange(s.name, value)}
          />
        ))}
      </Group>
    );
  });
}

interface LimitsProps {
  values: Values;
  faults: Faults;
  onChange: (name: string, value: string) => void;
}

export function LimitsForm({ values, faults, onChange }: LimitsProps) {
  return (
    <Group title="Limits" help="How much the CA is asked, by all replicas together. What is beyond waits for its turn.">
      {limits.map((l) => (
        <Field key={l.name} label={l.label} help={l.help} fault={faults[`limits.${l.name}`]}>
          {(wiring) => (
            <TextInput
              {...wiring}
              inputMode="numeric"
              value={values[l.name] ?? ''}
              placeholder={l.usual}
              onChange={(e) => onChange(l.name, e.target.value)}
            />
          )}
        </Field>
      ))}
    </Group>
  );
}

export function Group({ title, help, children }: { title: string; help?: string; children: React.ReactNode }) {
  return (
    <fieldset className="min-w-0 border-t border-line pt-5 first:border-t-0 first:pt-0">
      <legend className="float-left w-full font-semibold">{title}</legend>
      {help && <p className="clear-left pt-0.5 text-[13px] text-soft">{help}</p>}
      <div className="clear-left grid grid-cols-1 items-start gap-x-6 gap-y-5 pt-4 md:grid-cols-2">{children}</div>
    </fieldset>
  );
}
