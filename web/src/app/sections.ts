import { Landmark, type LucideIcon } from 'lucide-react';

interface Section {
  to: '/issuers';
  label: string;
  icon: LucideIcon;
}

/** The parts of the dashboard, as the navigation shows them. A new page adds its line here and its routes in routes.tsx. */
export const sections: Section[] = [{ to: '/issuers', label: 'Issuers', icon: Landmark }];
