import { Lock } from 'lucide-react';
import { Fact, Facts } from '@/ui/panel';
import { isShown, kept, unknownSettings, valuesOf } from './form';
import { kindOf, settingsOf } from './kinds/kinds';
import { isSecret, type Kind, type Setting } from './kinds/setting';
import { limits, limitValues } from './limits';
import type { Issuer } from './standing';

/** The settings of an issuer, those that are set or count. */
export function SettingsView({ issuer }: { issuer: Issuer }) {
  const kind = kindOf(issuer.type);
  const others = unknownSettings(kind, issuer.config);
  const limitsSet = limitValues(issuer.limits);
  const hasLimits = kind?.elsewhere || issuer.health !== undefined || Object.values(limitsSet).some(Boolean);
  return (
    <div className="flex flex-col gap-5">
      {kind && <Known kind={kind} issuer={issuer} />}
      {hasLimits && (
        <Part title="Limits">
          {limits.map((l) => (
            <Fact key={l.name} name={l.label}>
              {limitsSet[l.name] || <Usual value={l.usual} />}
            </Fact>
          ))}
        </Part>
      )}
      {others.length > 0 && (
        <Part title="Other settings">
          {others.map(([name, value]) => (
            <Fact key={name} name={name}>
              <Value value={value} />
            </Fact>
          ))}
        </Part>
      )}
    </div>
  );
}

function Known({ kind, issuer }: { kind: Kind; issuer: Issuer }) {
  const values = valuesOf(kind, issuer.config);
  // A default is said if it is one that counts now: of a CA that is made, what it was made with is in its certificate.
  const worthSaying = (s: Setting) =>
    values[s.name] !== '' || (isShown(kind, s, values) && Boolean(s.usual) && !(s.once && s.input !== 'choice'));
  return kind.sections.map((section) => {
    const settings = section.settings.filter(worthSaying);
    if (settings.length === 0) return null;
    return (
      <Part key={section.title} title={section.title}>
        {settings.map((s) => (
          <Fact key={s.name} name={s.label} wide={s.input === 'pem' || s.input === 'url'}>
            <Told setting={s} value={values[s.name] ?? ''} />
          </Fact>
        ))}
      </Part>
    );
  });
}

/** What an issuer keeps for life, as a form that changes it shows it. */
export function Fixed({ kind, issuer }: { kind: Kind; issuer: Issuer }) {
  const values = valuesOf(kind, issuer.config);
  const fixed = settingsOf(kind).filter((s) => s.once && values[s.name] !== '');
  if (fixed.length === 0) return null;
  return (
    <div className="rounded-md bg-sunk px-4 py-3">
      <p className="mb-3 text-[13px] text-soft">
        These stay: an issuer keeps its CA for life. Set up another issuer for another CA.
      </p>
      <Facts>
        {fixed.map((s) => (
          <Fact key={s.name} name={s.label} wide={s.input === 'pem' || s.input === 'url'}>
            <Told setting={s} value={values[s.name] ?? ''} />
          </Fact>
        ))}
      </Facts>
    </div>
  );
}

function Told({ setting: s, value }: { setting: Setting; value: string }) {
  const said = (v: string) =>
    s.choices?.find((c) => c.value === v)?.label ?? (s.input === 'switch' ? (v === 'true' ? 'Yes' : 'No') : v);
  if (isSecret(s) || value === kept) return <SecretSet />;
  if (value === '') return <Usual value={said(s.usual ?? '')} />;
  return <Value value={said(value)} />;
}

function SecretSet() {
  return (
    <span className="inline-flex items-center gap-1.5 text-soft">
      <Lock aria-hidden className="size-3.5" />
      Set, not shown
    </span>
  );
}

function Usual({ value }: { value: string }) {
  return (
    <>
      {value} <span className="text-soft">(usual)</span>
    </>
  );
}

function Value({ value }: { value: string }) {
  if (value === kept) return <SecretSet />;
  if (!value.includes('\n')) return <span className="break-words">{value}</span>;
  const rows = value.trim().split('\n');
  if (rows.length <= 4 && !value.includes('-----')) return <span className="break-words">{rows.join(', ')}</span>;
  return (
    <details>
      <summary className="cursor-pointer truncate rounded">{rows.length} lines</summary>
      <pre className="mt-1 rounded-md bg-sunk p-2 font-mono text-[13px] break-all whitespace-pre-wrap">
        {value.trim()}
      </pre>
    </details>
  );
}

function Part({ title, children }: { title: string; children: React.ReactNode }) {
  return (
    <section>
      <h3 className="mb-2 text-[13px] font-semibold">{title}</h3>
      <Facts>{children}</Facts>
    </section>
  );
}
