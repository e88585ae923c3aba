/** How a setting is typed in. `lines` is a list, one a line; `program` is a path and its arguments, one a line. */
export type Input =
  | 'text'
  | 'url'
  | 'number'
  | 'lines'
  | 'program'
  | 'pem'
  | 'choice'
  | 'switch'
  | 'secret'
  | 'secret-text'
  | 'issuer';

export interface Choice {
  value: string;
  label: string;
}

/** One setting of an issuer's `config`, as a form asks for it. */
export interface Setting {
  name: string;
  label: string;
  /** One sentence on what it is, or when to give it. */
  help: string;
  input: Input;
  required?: boolean;
  /** What counts if it is left empty; a form shows it, and does not send it. */
  usual?: string;
  /** What one may look like, if nothing is usual. */
  example?: string;
  choices?: Choice[];
  /** It is asked for only while each of these settings has one of these values; an empty one has its usual value. */
  when?: Record<string, string[]>;
  /** It makes the CA what it is: given once, and not changed later. */
  once?: boolean;
  min?: number;
  max?: number;
}

export interface Section {
  title: string;
  help?: string;
  settings: Setting[];
}

/** A type of issuer. */
export interface Kind {
  /** What the API calls it. */
  type: string;
  label: string;
  /** One line on when to take it. */
  when: string;
  /** Its CA is asked over a network or through programs, so how much it is asked can be limited. */
  elsewhere: boolean;
  sections: Section[];
}

export function isSecret(s: Setting): boolean {
  return s.input === 'secret' || s.input === 'secret-text';
}

export const validityDays: Setting = {
  name: 'validity_days',
  label: 'Longest validity of certificates (days)',
  help: 'No certificate by this issuer is valid for longer; the CA may grant less.',
  input: 'number',
  min: 1,
  max: 36500,
};
