import { acme } from './acme';
import { digicert, scripts, stepCA, vault } from './elsewhere';
import { local } from './local';
import type { Kind, Setting } from './setting';

/** Every type of issuer, those first that most begin with. */
export const kinds: Kind[] = [local, acme, stepCA, vault, digicert, scripts];

export function kindOf(type: string): Kind | undefined {
  return kinds.find((k) => k.type.toLowerCase() === type.toLowerCase());
}

export function settingsOf(kind: Kind): Setting[] {
  return kind.sections.flatMap((s) => s.settings);
}
