import { existsSync } from 'node:fs';
import { chromium, type Browser, type BrowserContext, type BrowserContextOptions } from 'playwright-core';

const DEBIAN = '/usr/bin/chromium';

/** Debian's Chromium, or the one that `CHROMIUM` names. */
function how() {
  const executablePath = process.env.CHROMIUM ?? DEBIAN;
  if (!existsSync(executablePath)) throw new Error(`no Chromium at ${executablePath}: apt-get install chromium, or set CHROMIUM`);
  return {
    executablePath,
    headless: true,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
  };
}

export async function launch(): Promise<Browser> {
  return chromium.launch(how());
}

/** A browser as a person has it, with a profile in a folder and an environment around: some of what the desktop does goes to a person's own profile alone. */
export async function launchProfile(folder: string, environment: Record<string, string>, options: BrowserContextOptions): Promise<BrowserContext> {
  return chromium.launchPersistentContext(folder, { ...how(), ...options, env: { ...(process.env as Record<string, string>), ...environment } });
}

export const PHONE = { width: 390, height: 844 };
export const DESKTOP = { width: 1280, height: 800 };
