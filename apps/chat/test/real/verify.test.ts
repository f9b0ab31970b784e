/** What a web server serves, compared with the build: by the program that an auditor runs. */
import { spawnSync } from 'node:child_process';
import { appendFileSync, cpSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Business, programs } from './business';

const dist = join(import.meta.dirname, '../../dist');
const verify = (link: string, ...how: string[]) => {
  const { status, stdout, stderr } = spawnSync(join(programs, 'bulla'), ['app', 'verify', link, ...how], { encoding: 'utf8' });
  return { status, said: stdout + stderr };
};

it('knows the build that is served, and one in which a single byte was added', async () => {
  const changed = mkdtempSync(join(tmpdir(), 'bulla-served-'));
  cpSync(dist, changed, { recursive: true });
  const script = readdirSync(join(changed, 'assets')).find((name) => /^index-.*\.js$/.test(name))!;
  appendFileSync(join(changed, 'assets', script), '\n');
  for (const [served, wrong] of [[dist, null], [changed, script]] as const) {
    const business = await Business.open(served);
    try {
      const { status, said } = verify(business.link, '--app', dist);
      expect(said).toContain(wrong ? `✗ assets/${wrong} is another file` : 'are those of this build, and come with its rules');
      expect(status).toBe(wrong ? 1 : 0);
      const other = verify(business.link, '--manifest', 'a'.repeat(64));
      expect(other.said).toContain('it should be aaaa');
      expect(other.status).toBe(1);
    } finally {
      await business.close();
    }
  }
  rmSync(changed, { recursive: true });
});
