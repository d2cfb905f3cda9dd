// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Links of the documentation lead somewhere: files that are there, headings that they have. */

import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const directories = [
  ...['.', 'docs', 'docs/adr', 'docs/internals', 'docs/reference', 'packaging'],
  ...['examples', 'charts/tandem'],
];
const pages = directories.flatMap((directory) =>
  readdirSync(join(root, directory))
    .filter((name) => name.endsWith('.md'))
    .map((name) => normalize(join(directory, name))),
);

const textOf = (page: string): string => readFileSync(join(root, page), 'utf8');

/** As code hosts make them of headings. */
function anchorsOf(page: string): ReadonlySet<string> {
  const headings = [...textOf(page).matchAll(/^#+ (.+)$/gm)].map(([, title = '']) => title);
  const marks = [...textOf(page).matchAll(/<a id="([^"]+)">/g)].map(([, id = '']) => id);
  return new Set([
    ...marks,
    ...headings.map((title) =>
      title
        .toLowerCase()
        .replaceAll(/[^\w\- ]/g, '')
        .replaceAll(' ', '-'),
    ),
  ]);
}

test('each link leads to a file that is there, and to a heading that it has', () => {
  const broken: string[] = [];
  let seen = 0;
  for (const page of pages) {
    for (const [, link = ''] of textOf(page).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(link)) continue;
      seen += 1;
      const [path = '', anchor = ''] = link.split('#');
      const target = path === '' ? page : relative(root, join(root, dirname(page), path));
      const isThere = existsSync(join(root, target));
      const hasHeading = anchor === '' || !target.endsWith('.md');
      if (!isThere || !(hasHeading || anchorsOf(target).has(anchor))) {
        broken.push(`${page}: ${link}`);
      }
    }
  }
  assert.deepEqual(broken, []);
  assert.ok(seen > 100, `${seen}`);
});

test('pages name a counter of the DNS worker by its metric', async () => {
  const { counterNames } = await import('@tandem/dns-proxy/counters');
  const reference = normalize('docs/reference/drop-reasons.md');
  for (const page of pages.filter((each) => each !== reference)) {
    const names = [...textOf(page).matchAll(/`([a-z][a-zA-Z]+)`/g)].map(([, name = '']) => name);
    const found = names.filter(
      (name) => /[A-Z]/.test(name) && counterNames.includes(name as never),
    );
    assert.deepEqual(found, [], page);
  }
});

test('messages of the chart that kubernetes.md quotes are in the chart', () => {
  const chart = readFileSync(join(root, 'charts/tandem/templates/validate.yaml'), 'utf8');
  // Helm itself says these.
  const ofHelm = [
    ...['chart requires kubeVersion: >=1.32.0-0', "values don't meet the specifications"],
    ...['no matches for kind "PodMonitor"', '"PrometheusRule"'],
  ];
  const rows = textOf(normalize('docs/kubernetes.md')).match(/^\| helm: .+? \|/gm) ?? [];
  const quotes = rows.flatMap((row) =>
    [...row.matchAll(/`([^`]+)`/g)].map(([, text = '']) => text),
  );
  assert.ok(quotes.length > 5, `${quotes.length}`);
  const missing = quotes.filter(
    (quote) =>
      !ofHelm.includes(quote) &&
      !quote.split('...').every((part) => chart.includes(part.trim().replaceAll(/ +/g, ' '))),
  );
  assert.deepEqual(missing, []);
});

test("README shows the demo's policy, and steps that the demo takes", () => {
  const readme = textOf('README.md');
  const shown = /```yaml\n([^]*?)```/.exec(readme)?.[1];
  assert.equal(shown, textOf('e2e/demo/policies/shop.yaml').replace(/^#.*\n/, ''));
  const demo = textOf('e2e/demo/main.ts');
  const steps = [...readme.matchAll(/^ ✔ (.+?) {2}/gm)].map(([, claim = '']) => claim);
  assert.ok(steps.length > 5);
  assert.deepEqual(
    steps.filter((claim) => !demo.includes(`'${claim}'`)),
    [],
  );
});
