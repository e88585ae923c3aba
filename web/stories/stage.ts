import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, join } from 'node:path';
import { type Browser, type BrowserContext, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import { adminKey, serverURL, tidy } from './server';

type Axe = typeof import('axe-core');

/** How long anything may take, on a machine that has much else to do. */
const patience = 30_000;

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** The Chromium that `make browser` has found or fetched. */
function installed(): string {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  const folders = (process.env.PATH ?? '').split(delimiter);
  for (const name of ['chromium', 'chromium-browser', 'google-chrome']) {
    const folder = folders.find((f) => existsSync(join(f, name)));
    if (folder) return join(folder, name);
  }
  throw new Error('there is no Chromium; `make browser` fetches one, or name one in CHROMIUM');
}

let browser: Browser;
const contexts: BrowserContext[] = [];
const complaints: string[] = [];

beforeAll(async () => {
  browser = await chromium.launch({
    executablePath: installed(),
    // Chromium's own sandbox needs rights that a container has not got.
    args: ['--no-sandbox'],
  });
});

afterAll(async () => {
  await browser?.close();
});

afterEach(async () => {
  for (const context of contexts.splice(0)) await context.close();
  await tidy();
  // What a page throws, or the policy for its content refuses, is wrong whatever the story was about.
  expect(complaints.splice(0)).toEqual([]);
});

/** A browser that nobody has used before. */
export async function visitor(options: BrowserContextOptions = {}): Promise<BrowserContext> {
  const context = await browser.newContext({
    baseURL: serverURL,
    locale: 'en-GB',
    reducedMotion: 'reduce',
    ...options,
  });
  context.setDefaultTimeout(patience);
  contexts.push(context);
  return context;
}

export async function open(context: BrowserContext, path: string): Promise<Page> {
  const page = await context.newPage();
  page.on('pageerror', (e) => complaints.push(e.message));
  page.on('console', (m) => {
    if (m.type() === 'error' && !m.text().startsWith('Failed to load resource')) complaints.push(m.text());
  });
  await page.goto(path);
  return page;
}

/** A page as somebody sees it who has come to the dashboard and signed in. */
export async function signedIn(path: string, options: BrowserContextOptions & { key?: string } = {}): Promise<Page> {
  const { key = adminKey, ...rest } = options;
  const page = await open(await visitor(rest), path);
  await signIn(page, key);
  return page;
}

export async function signIn(page: Page, key: string) {
  await page.getByLabel('API key').fill(key);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('navigation', { name: 'Sections' }).waitFor();
}

export function heading(page: Page, name: string) {
  return page.getByRole('heading', { level: 1, name });
}

/** What axe has against the page as it is, by the rules of WCAG 2.2 AA. */
export async function faults(page: Page): Promise<string[]> {
  // As a debugger would: the page's policy lets no script in, and axe is none of the page's.
  await page.evaluate(axe);
  return page.evaluate(async () => {
    const { axe } = window as unknown as { axe: Axe };
    const found = await axe.run(document, {
      runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
    });
    return found.violations.flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.html.slice(0, 160)} ${n.failureSummary}`));
  });
}
